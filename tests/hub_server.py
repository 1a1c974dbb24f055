"""A small Hugging Face Hub on this machine, and nothing else that can be reached.

It keeps repositories in memory and speaks as much of the Hub's protocol as pushing and pulling take: making a
repository, checking a card, preupload, large files by LFS (batch and PUT), commits as ndjson, what a repository holds,
and its files (HEAD and GET, with ranges).
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants as hub
import pytest
import yaml

TOKEN = "hf_" + "secretsecret"  # in two parts: no scanner takes it for one that leaked
LFS_SUFFIX = ".safetensors"

KIND = r"(?P<kind>model|dataset)s"
ID = r"(?P<id>[^/]+/[^/]+)"
ROUTES = {
    ("POST", r"/api/repos/create"): "create",
    ("POST", r"/api/validate-yaml"): "validate",
    ("POST", rf"/api/{KIND}/{ID}/preupload/(?P<revision>[^/]+)"): "preupload",
    ("POST", rf"/(?:datasets/)?{ID}\.git/info/lfs/objects/batch"): "batch",
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]+)"): "put",
    ("POST", rf"/api/{KIND}/{ID}/commit/(?P<revision>[^/]+)"): "commit",
    ("GET", rf"/api/{KIND}/{ID}(?:/revision/(?P<revision>[^/]+))?"): "info",
    ("HEAD", rf"/(?P<datasets>datasets/)?{ID}/resolve/(?P<revision>[^/]+)/(?P<name>.+)"): "resolve",
    ("GET", rf"/(?P<datasets>datasets/)?{ID}/resolve/(?P<revision>[^/]+)/(?P<name>.+)"): "resolve",
}


@dataclass
class Repo:
    """Files by name; ``sizes`` are what the Hub says instead of the truth."""

    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        told = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in sorted(self.files.items())})
        return hashlib.sha1(told.encode()).hexdigest()


class Hub:
    """The state of the server.

    Attributes:
        repos: by (kind, id).
        asked: (method, path) of every request.
        fails: status by what is asked (a name of ROUTES): answered instead.
        breaks_after: bytes of a file after which a download breaks off, for good.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.fails: dict[str, int] = {}
        self.breaks_after: int | None = None
        self.url = ""

    def add(self, id: str, files: dict[str, bytes], kind: str = "model", **about: Any) -> Repo:
        self.repos[kind, id] = Repo(files, **about)
        return self.repos[kind, id]

    def add_folder(self, id: str, folder: Path, kind: str = "model") -> Repo:
        return self.add(id, {path.name: path.read_bytes() for path in folder.iterdir()}, kind)

    def downloads(self) -> set[str]:
        """Names of the files that were asked for."""
        return {
            path.rsplit("/", 1)[-1] for method, path in self.asked if method == "GET" and "/resolve/" in path
        }


class Handler(BaseHTTPRequestHandler):
    """One request, answered from ``hub``."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append((self.command, path))
        for (method, pattern), name in ROUTES.items():
            found = re.fullmatch(pattern, path)
            if method == self.command and found:
                if name in self.hub.fails:
                    return self.answer({"error": "the server has a problem"}, self.hub.fails[name])
                return getattr(self, name)(**found.groupdict())
        return self.answer({"error": f"no route {self.command} {path}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = do_any  # noqa: N815 (http.server's names)

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), status, **{"Content-Type": "application/json"}, **headers)

    def send(self, data: bytes, status: int = 200, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])
        if cut is not None and len(data) > cut:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def may_write(self) -> bool:
        if not self.allowed():
            self.answer({"error": "Invalid username or password."}, 401)
        return self.allowed()

    def repo(self, kind: str, id: str) -> Repo | None:
        found = self.hub.repos.get((kind, id))
        if found is None or (found.private and not self.allowed()):
            self.answer({"error": "Repository not found"}, 401, **{"X-Error-Code": "RepoNotFound"})
            return None
        if found.gated and not self.allowed():
            self.answer({"error": "ask for access"}, 403, **{"X-Error-Code": "GatedRepo"})
            return None
        return found

    def create(self) -> None:
        asked = json.loads(self.body)
        if not self.may_write():
            return
        key = asked.get("type") or "model", f"{asked['organization']}/{asked['name']}"
        address = f"{self.hub.url}/{'datasets/' if key[0] == 'dataset' else ''}{key[1]}"
        there = key in self.hub.repos
        self.hub.repos.setdefault(key, Repo(private=asked.get("visibility") == "private"))
        self.answer({"url": address, "name": key[1]}, 409 if there else 200)

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        block = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        data = yaml.safe_load(block[1]) if block else None
        wrong = [] if isinstance(data, dict) else [{"message": "no metadata"}]
        for model in (data or {}).get("model-index", []):
            for result in model["results"]:
                if not (result["task"]["type"] and result["dataset"]["type"] and result["metrics"]):
                    wrong.append({"message": "an incomplete result"})
        self.answer({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def preupload(self, kind: str, id: str, revision: str) -> None:
        if self.may_write() and self.repo(kind, id):
            names = [file["path"] for file in json.loads(self.body)["files"]]
            modes = {name: "lfs" if name.endswith(LFS_SUFFIX) else "regular" for name in names}
            self.answer(
                {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False} for n, m in modes.items()]}
            )

    def batch(self, id: str) -> None:
        objects = json.loads(self.body)["objects"]
        for one in objects:
            one["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
        if self.may_write():
            self.answer({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.lfs[oid] = self.body
        self.answer({})

    def commit(self, kind: str, id: str, revision: str) -> None:
        repo = self.repo(kind, id) if self.may_write() else None
        if repo is None:
            return
        for item in map(json.loads, self.body.splitlines()):
            value = item["value"]
            if item["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                repo.files[value["path"]] = self.hub.lfs[value["oid"]]
        self.answer({"commitUrl": f"{self.hub.url}/{id}/commit/{repo.commit}", "commitOid": repo.commit})

    def info(self, kind: str, id: str, revision: str | None = None) -> None:
        repo = self.repo(kind, id)
        if repo is None:
            return
        if revision not in (None, "main", repo.commit):
            self.answer({"error": "Invalid rev id"}, 404, **{"X-Error-Code": "RevisionNotFound"})
            return
        files = []
        for name, data in repo.files.items():
            size = repo.sizes.get(name, len(data))
            files.append({"rfilename": name, "size": size, "blobId": "0" * 40})
            if name.endswith(LFS_SUFFIX):
                digest = hashlib.sha256(data).hexdigest()
                files[-1]["lfs"] = {"size": size, "sha256": digest, "pointerSize": 1}
        self.answer({"id": id, "sha": repo.commit, "private": repo.private, "tags": [], "siblings": files})

    def resolve(self, datasets: str | None, id: str, revision: str, name: str) -> None:
        repo = self.repo("dataset" if datasets else "model", id)
        if repo is None:
            return
        if name not in repo.files:
            self.answer({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
            return
        data = repo.files[name]
        about = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": repo.commit}
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(first[1]) if first else 0
        if first:
            about["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = self.hub.breaks_after
        self.send(data[start:], 206 if first else 200, None if end is None else max(0, end - start), **about)


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that answers on a port of this machine."""
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OurHandler", (Handler,), {"hub": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def settle_on(state: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub speaks to this server only, with our token, a cache of its own and no waiting."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", state.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(home / "hub-cache"))
    monkeypatch.setattr(hub, "HF_TOKEN_PATH", str(home / "no-token"))
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time.sleep", lambda seconds: None)

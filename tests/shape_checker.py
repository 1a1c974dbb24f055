"""beartype as jaxtyping's checker, with ``int`` accepted where ``float`` is announced (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))

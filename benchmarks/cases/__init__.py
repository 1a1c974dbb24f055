"""One module per case; each says what the plain way is."""

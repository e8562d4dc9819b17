"""The public API, `<project>/api/v1`: shapes and links as tools know them that mirror runs elsewhere."""

"""Signing in: the server as an OAuth 2 authorization server, the pages where people sign in, and what it issues."""

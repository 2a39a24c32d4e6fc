"""The Hub's HTTP API, a file a part of it. Each has `routes(hub)`, which gives a router."""

"""The hub: repositories, the Hub API and the content-addressed store under them."""

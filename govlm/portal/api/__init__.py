"""The routes, one module for each kind of thing. Each has `router`; `govlm.portal.application` puts them together."""

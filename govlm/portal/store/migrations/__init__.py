"""The history of the portal's tables, for alembic; `govlm.portal.store.tables.upgrade` runs it at start."""

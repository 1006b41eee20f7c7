"""The history of the catalogue's tables, for alembic; `govlm.hall.catalogue.store` runs it when a catalogue is opened."""

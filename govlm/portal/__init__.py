"""The portal: serves a hall to citizens and to other systems.

from govlm.portal.application import create_app
from govlm.portal.settings import Settings

app = create_app(Settings(data="portal-data"))
"""

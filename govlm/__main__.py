"""`python -m govlm` is the command `govlm`."""

from govlm.cli import main

raise SystemExit(main())

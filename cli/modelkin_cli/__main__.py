"""`python -m modelkin_cli` is the command `modelkin`."""

import sys

from modelkin_cli.start import main

sys.exit(main())

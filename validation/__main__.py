"""``python -m validation``."""

import sys

from validation.command import main

sys.exit(main())

"""`python3 scripts/lab COMMAND`: builds, shows and removes the lab, and runs the demo."""

import sys
from pathlib import Path

# Run as a folder, Python puts the folder itself on the path; the modules are a package, so its parent belongs there.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from lab.command_line import main  # noqa: E402  (the path must be right first)

sys.exit(main(sys.argv[1:]))

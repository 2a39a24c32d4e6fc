"""What every web page of allmend shares: the shell and theme, and the safe rendering of what others wrote.

Pages are HTML made on the server plus small scripts of our own, held by a strict content security policy; nothing is
fetched from anywhere else, so they work offline.
"""

from __future__ import annotations

from allmend.pages.markdown import markdown
from allmend.pages.outputs import fragment, frame, frame_policy
from allmend.pages.shell import POLICY, asset, page

__all__ = ["POLICY", "asset", "fragment", "frame", "frame_policy", "markdown", "page"]

"""What older versions that are allowed say and do otherwise, for tests that name it."""

from __future__ import annotations

import jsonargparse
import lightning
from packaging.version import Version

LIGHTNING, JSONARGPARSE = Version(lightning.__version__), Version(jsonargparse.__version__)

WARNS_OF_EVALUATION_MODE = Version("2.5.5") <= LIGHTNING
"""Lightning warns of modules that are in evaluation mode when training begins."""

FINDER_TAKES_WHAT_IT_TRIED = Version("2.6") <= LIGHTNING
"""The batch size that Lightning's finder ends with has been tried; before, it was one further."""

SPELLS_TYPES_AS_FROZEN = Version("4.52") <= JSONARGPARSE
"""Help tells the types of options as tests/golden/help has them: ``str | null``, not ``null, str``."""

NAMES_NULL_LAST = Version("4.51") <= JSONARGPARSE
"""Errors tell what is expected as ``int or null``, not ``null or int``."""

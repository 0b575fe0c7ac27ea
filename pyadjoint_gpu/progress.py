"""Progress bars, of a notebook's kind where there is one."""

from __future__ import annotations

from typing import Any


def progress_bar(items: Any = None, *, shown: bool | None, **options: Any) -> Any:
    """tqdm's bar over `items`; where `shown` is None, if someone looks."""
    if shown is False:
        # The choice of a kind warns in notebooks that lack widgets, seen or not.
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm
    return tqdm(items, disable=None if shown is None else not shown, **options)

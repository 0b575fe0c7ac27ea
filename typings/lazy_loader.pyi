"""What the package uses of lazy_loader, which has no types."""

from collections.abc import Callable, Iterable

_Attached = tuple[Callable[[str], object], Callable[[], list[str]], list[str]]

def attach(package_name: str, submodules: Iterable[str] = ...) -> _Attached: ...
def attach_stub(package_name: str, filename: str) -> _Attached: ...

from . import FileID
from .h5p import PropDCID
from .h5s import SpaceID
from .h5t import TypeID

ALLOC_TIME_EARLY: int
FILL_TIME_NEVER: int

def create(loc: FileID, name: bytes, tid: TypeID, space: SpaceID, dcpl: PropDCID) -> object: ...

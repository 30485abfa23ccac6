"""Have torch work where no temporary file can be made, as in a read-only container.

Some parts of torch import its compiler, which makes a folder for compiled code when it is imported,
whether or not anything is compiled. Nothing is compiled here.
"""

import os
import tempfile

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def do_without_temporary_files() -> None:
    """Give torch's compiler a folder that exists, where there is none for temporary files.

    Left as it is where the environment names a folder. Call it before a model is made.
    """
    if _VARIABLE in os.environ:
        return
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        os.environ[_VARIABLE] = os.sep

"""Loading the user's functions, named `module:function`: the only way a recipe runs user code."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from open_rs.errors import InputError


def load_function(name: str) -> Callable[..., Any]:
    """The function that `module:function` names; a module in the working directory is found too.

    The working directory is searched last, so that a file there cannot stand in for an installed
    package. Raises InputError with the cure if the name, the module or the function is not there.
    """
    module_name, colon, function_name = name.partition(":")
    if not colon or not module_name or not function_name.isidentifier():
        raise InputError(
            f"{name!r} does not name a function; write module:function, such as my_rewards:brevity"
        )
    module = import_user_module(name, module_name)
    function = getattr(module, function_name, None)
    if function is None:
        near = difflib.get_close_matches(function_name, dir(module), n=1)
        cure = f"did you mean {module_name}:{near[0]}?" if near else f"define it in {module_name}"
        raise InputError(f"{name!r}: module {module_name} has no {function_name}; {cure}")
    if not callable(function):
        raise InputError(f"{name!r} is not a function but {type(function).__name__}; name one")
    return function


def import_user_module(name: str, module_name: str) -> Any:
    """Import `module_name`; `name` is the plug-in that asks for it."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"{name!r}: {module_name} needs the module {error.name}, which is not installed; "
                "install it"
            ) from error
        raise InputError(
            f"{name!r}: no module {error.name} here ({here}) or installed; "
            "run the command from the folder that holds it, or correct the name"
        ) from error
    except (Exception, SystemExit) as error:  # a script that ends with sys.exit, too
        raise InputError(
            f"{name!r}: importing {module_name} raised {type(error).__name__}: {error}; mend it"
        ) from error

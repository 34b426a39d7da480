"""Python's values <-> JSON: the one room with cattrs.

`service` reads what the service says, `values` what a user's own types say; that one is loaded
where there are some.
"""

from cfai._convert.service import (
    dumps as dumps,
    loads as loads,
    structure as structure,
)

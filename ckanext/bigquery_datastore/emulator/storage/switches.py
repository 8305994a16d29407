"""How strict both services are: what the admin API can switch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Switches:
    """What the admin API can switch."""

    one_write_per_second: bool = False
    public_objects: bool = False  # whether an unsigned URL may read
    table_updates: bool = True  # whether a table takes five changes of metadata in ten seconds
    googlesql: bool = True  # whether GoogleSQL is asked before a statement runs
    history: bool = False  # whether earlier states of tables are kept (FOR SYSTEM_TIME)

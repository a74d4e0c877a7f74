"""Fresh processes: spawn, watch, kill, restart."""

"""An adapter that cannot even be imported."""

raise ImportError("libbroken.so.1: cannot open shared object file\nand more")

"""Other programs' configurations as Flow manifests: one module for each format.

A format's module turns a :class:`~.source.Source` into :class:`~.draft.Draft` s; ``finish`` makes
checked documents of those. Keys are read through :class:`~.section.Section`, which knows what has
not been asked for, so that nothing is dropped without a remark.
"""

FORMATS = ("supervisord", "procfile", "process-compose", "compose", "pm2", "systemd")
"""What ``--from`` takes."""

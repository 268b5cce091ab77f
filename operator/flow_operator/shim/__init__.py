"""The shim: parent of every local step, holder of the pipes between them and of their exit codes.

One small process per data directory. It outlives the operator, so that the operator may crash or
be upgraded while flows keep running. It decides nothing: it starts, signals, closes and reports
what it is told to, and everything it is asked is idempotent by run id and attempt.

Standard library only, and nothing else of this package: it runs on an interpreter without
site-packages and must stay small. So it does without typing at run time (type checkers take any
``TYPE_CHECKING`` for true), pathlib, shutil and hashlib, which are a third of it.
"""

"""A seeded fuzzer: index folders, model folders, shards and tables are changed, and commands are run on them.

    python -m tests.fuzzing index --cases 2000
    python -m tests.fuzzing --minutes 60 --seed 7
    python -m tests.fuzzing tables --seed 0 --case 17

Whatever is changed, a command ends with one of its own exit codes and in words, within ten seconds and 1.5 GB, changes
no file outside its place, asks nobody over the network, and sends nothing unescaped to a terminal. The same seed makes
the same changes; a case that breaks a promise is kept as a folder with the line that runs it again.
"""

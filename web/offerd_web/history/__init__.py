"""What has ended, on the disk: it outlives masters, which forget.

batch.py         what is written at once
batch_maker.py   makes batches of a master's answers (pure)
accounting.py    what a task adds to the accounts of which day (pure)
schema.py        the tables, and how older files are brought up to date
bounds.py        what is removed as it is old, or as the file is full
store.py         the file: writing
task_rows.py     ended tasks in it, none of them twice
reading.py       the file: reading, in any thread
writer.py        a thread that writes, so that nobody waits for the disk
"""

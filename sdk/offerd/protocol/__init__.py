"""Messages that users never write: about files, keys and recordings, and between an executor and its spawner.

Who sends which message is a table in `docs/reference/protocol.md`; the spawner's are in `spawner_messages` alone.
"""

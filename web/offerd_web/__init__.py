"""The gateway: a process that follows the leading master and shows the cluster over HTTP, in a browser and in its history.

core/           what the master's answers add up to, and how it is described (pure)
services/       who asks, and the ways to the master and the slaves
history/        what has ended, on the disk
api/            what HTTP clients may ask and order
page/           what browsers are sent
gateway.py      the process
"""

"""Allocation modules: who is offered what became free. Found by entry points of the group `offerd.allocators`."""

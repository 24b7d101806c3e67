"""What a framework author imports: messages, resources, ids, codec, scheduler and executor drivers."""

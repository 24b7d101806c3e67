"""The master's decisions: a deterministic state machine without IO."""

"""Rules for values: bounds of numbers and texts, ranges, names of keys, text that is safe to show, texts of errors.

All else uses this.
"""

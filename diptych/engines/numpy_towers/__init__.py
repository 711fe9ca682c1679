"""Towers in NumPy, for processes that compute too little to wait for another engine."""

"""The commands, a module for each stage. A stage is imported only when it is called, so that --help
answers at once.
"""

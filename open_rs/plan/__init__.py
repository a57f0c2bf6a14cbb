"""What a recipe will cost, before it is paid for."""

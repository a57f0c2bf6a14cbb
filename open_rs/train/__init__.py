"""Training: rewards, the GRPO maths, log-probs, batches, the loop. Import the modules directly."""

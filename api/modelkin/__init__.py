"""What is this model closest to, in which of its parts, and how sure can we be?"""

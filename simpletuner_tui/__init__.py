"""What a person meets: questions, front ends, commands. Never imports torch."""

"""What a file holds, by kind: photographs, videos, and what they say of themselves."""

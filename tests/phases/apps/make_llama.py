"""Write ``little.gguf``: a llama of half a megabyte."""

from pathlib import Path

from deploy.demo.models import write_llama

write_llama(Path("little.gguf"), "little")

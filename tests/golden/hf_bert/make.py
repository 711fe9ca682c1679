"""A tiny random BERT, and the mean-pooled features that transformers computes with it: run it where transformers is.

python tests/golden/hf_bert/make.py          (writes the files beside it)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?-'[]"
WORDS = ["a", "the", "of", "cat", "dog", "photo", "black", "##s", "##ing", "run", "##berry", "blue", "un", "##real"]
TEXTS = ["a photo of the cat", "dogs", "unreal blueberries running, and the black dog of a cat!", "Café?"]


def tokenizer() -> Tokenizer:
    """WordPiece as BERT's, with every letter at the start and inside of a word."""
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*marks, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    made.add_special_tokens(marks)
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ids = [(mark, vocabulary[mark]) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ids)
    made.enable_truncation(8)
    made.enable_padding(pad_id=0, length=8)
    return made


def main() -> None:
    made = tokenizer()
    made.save(str(HERE / "tokenizer.json"))
    made.no_padding()
    made.no_truncation()
    made.enable_padding()
    rows = made.encode_batch(TEXTS)
    ids, mask = torch.tensor([row.ids for row in rows]), torch.tensor([row.attention_mask for row in rows])
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=made.get_vocab_size(), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=40, initializer_range=0.3, architectures=["BertModel"],
    )  # fmt: skip
    model = BertModel(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)  # norms and biases of their own
    model.save_pretrained(HERE)
    with torch.no_grad():
        states = model(ids, attention_mask=mask).last_hidden_state
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    save_file({"ids": ids, "mask": mask, "text_features": pooled}, HERE / "expected.safetensors")


if __name__ == "__main__":
    main()

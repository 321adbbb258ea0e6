"""A tiny config.json for any text architecture of mlx-lm, so that a random model of it can be built from its ModelArgs.

An architecture's ModelArgs takes from a config what it has a name for. So one dictionary, `COMMON`, has a small value
for every name that more than a few of them use, and serves as the nested `text_config` as well. `OWN` is what is left:
names that mean something else in one architecture, and those that only it has.

Sizes: 2 layers, hidden size 128, 2 query heads, 1 key/value head of size 64, windows of 32 tokens, 4 experts.
"""

from typing import Any

LAYERS = 2
HIDDEN = 128
HEAD = 64
VOCABULARY = 128
WINDOW = 32


def _all(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


COMMON: dict[str, Any] = {
    # Sizes
    **_all(HIDDEN, "hidden_size d_model n_embd hidden_dim model_dim dim_model_base block_dim moe_hidden_size"),
    **_all(LAYERS, "num_hidden_layers n_layers n_layer num_layers num_transformer_layers"),
    **_all(2, "num_attention_heads n_heads n_head num_heads swa_num_attention_heads index_n_heads"),
    **_all(1, "num_key_value_heads num_kv_heads n_kv_heads num_attention_groups swa_num_key_value_heads"),
    **_all(HEAD, "head_dim hidden_size_per_head kv_channels v_head_dim swa_head_dim swa_v_head_dim index_head_dim"),
    **_all(
        HEAD, "intermediate_size ffn_hidden_size mlp_hidden_size n_inner ff_intermediate_size intermediate_size_mlp"
    ),
    **_all(HEAD, "dense_intermediate_size block_ff_dim"),
    **_all(VOCABULARY, "vocab_size num_vocab embedding_size vocab_size_per_layer_input"),
    **_all(512, "max_position_embeddings n_positions n_ctx block_size model_max_length"),
    # Attention
    **_all(WINDOW, "sliding_window window_size attention_window_size sliding_window_size attention_chunk_size"),
    **_all(2, "sliding_window_pattern full_attention_interval dense_attention_every_n_layers n_shared_head"),
    **_all(10000.0, "rope_theta rotary_emb_base swa_rope_theta rope_local_base_freq"),
    **_all(0.5, "partial_rotary_factor rotary_pct"),
    "layer_types": ["sliding_attention", "full_attention"],
    "rope_scaling": None,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "num_kv_reuse_layers": 1,
    "num_kv_shared_layers": 0,
    # Multi-head latent attention, and an indexer that picks tokens for it
    **_all(64, "kv_lora_rank q_lora_rank qk_nope_head_dim"),
    **_all(32, "qk_rope_head_dim rotary_dim index_topk"),
    # Experts
    **_all(4, "num_experts n_routed_experts num_local_experts moe_num_experts"),
    **_all(2, "num_experts_per_tok moe_topk moe_k moe_top_k num_experts_per_token top_k_experts"),
    **_all(1, "n_shared_experts num_shared_experts num_shared_expert moe_num_shared_experts zero_expert_num"),
    **_all(1, "n_group topk_group num_expert_group"),
    **_all(1, "first_k_dense_replace num_dense_layers decoder_sparse_step interleave_moe_layer_step moe_layer_freq"),
    **_all(64, "moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size share_expert_dim"),
    **_all(64, "moe_shared_expert_intermediate_size shared_intermediate_size"),
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "zero_expert_type": "identity",
    "mlp_only_layers": [],
    # State spaces, linear attention, convolutions
    **_all(32, "mamba_d_state state_size ssm_state_size"),
    **_all(2, "mamba_n_heads mamba_num_heads linear_num_key_heads linear_num_value_heads mamba_expand"),
    **_all(HEAD, "mamba_head_dim mamba_d_head linear_key_head_dim linear_value_head_dim"),
    **_all(128, "mamba_d_ssm"),
    **_all(1, "n_groups mamba_n_groups group_norm_size"),
    **_all(4, "conv_kernel conv_L_cache conv_window mamba_d_conv linear_conv_kernel_dim conv1d_width"),
    **_all(4, "short_conv_kernel_size"),
    **_all(2, "attn_layer_period expert_layer_period layer_group_size"),
    **_all(1, "attn_layer_offset expert_layer_offset"),
    **_all(32, "a_low_rank_dim v_low_rank_dim gate_low_rank_dim decay_low_rank_dim"),
    "time_step_limit": [0.0, 100.0],
    "time_step_rank": 8,
    "linear_attn_config": {
        "num_heads": 2,
        "head_dim": HEAD,
        "short_conv_kernel_size": 4,
        "kda_layers": [1],
        "full_attn_layers": [2],
    },
    # Norms, factors, switches
    **_all(
        1e-5, "rms_norm_eps layer_norm_eps norm_eps layer_norm_epsilon layernorm_epsilon norm_epsilon post_norm_eps"
    ),
    **_all(1.0, "routed_scaling_factor logits_scaling embedding_multiplier residual_multiplier output_multiplier"),
    **_all(1.0, "scale_emb scale_depth block_ffn_dim_multiplier"),
    **_all(HEAD**-0.5, "attention_multiplier"),
    **_all(30.0, "final_logit_softcapping logits_soft_cap"),
    **_all(True, "norm_topk_prob use_qk_norm qk_norm mla_scale_q_lora mla_scale_kv_lora add_swa_attention_sink_bias"),
    **_all(False, "attention_bias mlp_bias use_bias qkv_bias use_qkv_bias conv_bias use_conv_bias mamba_proj_bias"),
    **_all(False, "tie_word_embeddings use_mixed_mlp_moe use_cla post_norm use_expert_bias linear_allow_neg_eigval"),
    **_all(False, "block_auto_adjust_ff_dim add_full_attention_sink_bias"),
}
"""What a name means wherever it is used."""

_CONVOLUTION_AND_ATTENTION = {"block_multiple_of": 32, "full_attn_idxs": [1], "layer_types": None}
_HALF_SHARE_KEYS = {
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_SCALED_QUERIES = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "llama_4_scaling_beta": 0.1,
        "original_max_position_embeddings": 64,
    }
}

OWN: dict[str, dict[str, Any]] = {
    "baichuan_m1": {"sliding_window_layers": [0], "conv_window": 2},
    "dbrx": {
        "attn_config": {"kv_n_heads": 1, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"rope_scaling": {"factor": 1.0, "type": "yarn", "mscale_all_dim": 0}},
    "exaone4": {"sliding_window_pattern": "LG"},
    "exaone_moe": {"is_moe_layer": [False, True]},
    "gemma3n": {
        "activation_sparsity_pattern": [0.5] * 4,
        "altup_active_idx": 0,
        "altup_coef_clip": 120.0,
        "altup_correct_scale": True,
        "altup_num_inputs": 2,
        "hidden_size_per_layer_input": 32,
        "laurel_rank": 32,
        **_HALF_SHARE_KEYS,
    },
    "gemma4": _HALF_SHARE_KEYS,
    "gemma4_text": _HALF_SHARE_KEYS,
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "hunyuan": {
        "cla_share_factor": 2,
        "use_cla": True,
        "rope_scaling": {"type": "dynamic", "alpha": 1.0, "factor": 1.0},
    },
    "lfm2": _CONVOLUTION_AND_ATTENTION,
    "lfm2-vl": _CONVOLUTION_AND_ATTENTION,
    "llama4": {"num_experts_per_tok": 1, "num_hidden_layers": 4},  # every fourth layer sees the whole context
    "llama4_text": {"no_rope_layers": [1, 0]},
    "longcat_flash": {"attention_method": "MLA"},
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [1, 0],
        "moe_layer_freq": [0, 1],
        "v_head_dim": 32,
        "swa_v_head_dim": 32,
    },
    "minicpm3": {"rope_scaling": {}},
    "minimax_m3_vl": {
        "moe_layer_freq": [0, 1],
        "sparse_attention_config": {
            "sparse_attention_freq": [0, 1],
            "sparse_block_size": 16,
            "sparse_index_dim": HEAD,
            "sparse_local_block": 1,
            "sparse_num_index_heads": 1,
            "sparse_topk_blocks": 2,
        },
    },
    "ministral3": _SCALED_QUERIES,
    "mistral3": _SCALED_QUERIES,
    "mistral4": _SCALED_QUERIES,
    "muse_spark": {"num_shared_experts": 0, "layer_rope_theta": [10000.0, 0.0]},
    "nemotron": {"hidden_act": "relu2"},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "moe"], "num_hidden_layers": 3},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "openelm": {
        "ffn_dim_divisor": 32,
        "ffn_multipliers": [1.0] * LAYERS,
        "num_kv_heads": [1] * LAYERS,
        "num_query_heads": [2] * LAYERS,
    },
    "phi3small": {"gegelu_limit": 20.0, "vocab_size": 100_352, "hidden_size": 64, "num_attention_heads": 1},
    "prism_hadamard_qwen35": {
        "schema_version": 1,
        "tensor_namespace": "mlx-lm-text",
        "quantization": {"bits": 2, "group_size": 128, "mode": "affine"},
        "modules": [{"path": "model.layers.1.self_attn.q_proj", "embedding": False, "dtype": "float16", "block": 0}],
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "nemotron-nas": {
        "block_configs": [{"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 0.5}}] * LAYERS,
    },
}
"""What one architecture takes otherwise, or alone."""


def config_of(architecture: str) -> dict[str, Any]:
    """Return a tiny config.json for the module `architecture` of mlx_lm.models."""
    text = {**COMMON, **OWN.get(architecture, {}), "model_type": architecture}
    return {**text, "text_config": text}

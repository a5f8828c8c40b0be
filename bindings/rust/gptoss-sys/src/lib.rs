//! The declarations of gptoss.h, which is their documentation. tests/header.rs compares them with it.
#![allow(non_camel_case_types, non_upper_case_globals)]

use std::os::raw::{c_char, c_int, c_uint, c_void};

// Each macro declares, and lists what it has declared for the comparison with the header.

macro_rules! enums {
    ($($name:ident { $($value:ident = $number:expr,)* })*) => {
        $(pub type $name = c_uint; $(pub const $value: $name = $number;)*)*
        #[doc(hidden)]
        pub const ENUMS: &[(&str, &[(&str, c_uint)])] = &[$((stringify!($name), &[$((stringify!($value), $number)),*])),*];
    };
}

macro_rules! structs {
    ($($name:ident { $($field:ident: $type:ty,)* })*) => {
        $(#[repr(C)] #[derive(Clone, Copy)] pub struct $name { $(pub $field: $type,)* })*
        /// Name, size, and the offset and size of each field.
        #[doc(hidden)]
        #[allow(clippy::type_complexity)]
        pub fn structs() -> Vec<(&'static str, usize, Vec<(&'static str, usize, usize)>)> {
            vec![$({
                let value = std::mem::MaybeUninit::<$name>::uninit();
                let at = value.as_ptr();
                let fields = vec![$((
                    stringify!($field),
                    unsafe { std::ptr::addr_of!((*at).$field) as usize } - at as usize,
                    std::mem::size_of::<$type>(),
                )),*];
                (stringify!($name), std::mem::size_of::<$name>(), fields)
            }),*]
        }
    };
}

macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        extern "C" { $(pub fn $name($($argument: $type),*) -> $result;)* }
        /// Name, result, arguments.
        #[doc(hidden)]
        pub const FUNCTIONS: &[(&str, &str, &[&str])] =
            &[$((stringify!($name), stringify!($result), &[$(stringify!($type)),*])),*];
    };
}

macro_rules! handles {
    ($($name:ident = $struct:ident;)*) => {
        $(#[repr(C)] pub struct $struct { _opaque: [u8; 0] } pub type $name = *mut $struct;)*
    };
}

pub const GPTOSS_VERSION_MAJOR: u32 = 0;
pub const GPTOSS_VERSION_MINOR: u32 = 2;

handles! {
    gptoss_model_t = gptoss_model;
    gptoss_tokenizer_t = gptoss_tokenizer;
    gptoss_context_t = gptoss_context;
    gptoss_sampler_t = gptoss_sampler;
    gptoss_harmony_parser_t = gptoss_harmony_parser;
    gptoss_grammar_t = gptoss_grammar;
    gptoss_adapter_t = gptoss_adapter;
}

pub type gptoss_log_callback_t = Option<unsafe extern "C" fn(*mut c_void, gptoss_log_level, *const c_char)>;
pub type gptoss_progress_callback_t = Option<unsafe extern "C" fn(*mut c_void, u64, u64) -> c_int>;
pub type gptoss_token_callback_t = Option<unsafe extern "C" fn(*mut c_void, u32) -> c_int>;
pub type gptoss_tap_callback_t = Option<unsafe extern "C" fn(*mut c_void, *const gptoss_tap) -> c_int>;
pub type gptoss_output_callback_t = Option<unsafe extern "C" fn(*mut c_void, *const gptoss_output) -> c_int>;

enums! {
    gptoss_status {
        gptoss_status_success = 0,
        gptoss_status_invalid_argument = 1,
        gptoss_status_unsupported_argument = 2,
        gptoss_status_invalid_state = 3,
        gptoss_status_io_error = 4,
        gptoss_status_insufficient_memory = 5,
        gptoss_status_insufficient_resources = 6,
        gptoss_status_unsupported_system = 7,
        gptoss_status_context_overflow = 8,
        gptoss_status_device_lost = 9,
        gptoss_status_cancelled = 10,
        gptoss_status_internal_error = 11,
    }
    gptoss_log_level {
        gptoss_log_level_error = 1,
        gptoss_log_level_warning = 2,
        gptoss_log_level_info = 3,
    }
    gptoss_device_type {
        gptoss_device_type_other = 0,
        gptoss_device_type_integrated_gpu = 1,
        gptoss_device_type_discrete_gpu = 2,
        gptoss_device_type_virtual_gpu = 3,
        gptoss_device_type_cpu = 4,
    }
    gptoss_kernel_tier {
        gptoss_kernel_tier_default = 0,
        gptoss_kernel_tier_exact = 1,
        gptoss_kernel_tier_coopmat = 2,
        gptoss_kernel_tier_integer = 3,
    }
    gptoss_weight_type {
        gptoss_weight_type_default = 0,
        gptoss_weight_type_bf16 = 1,
        gptoss_weight_type_q8 = 2,
    }
    gptoss_harmony_state {
        gptoss_harmony_state_expect_start = 0,
        gptoss_harmony_state_header = 1,
        gptoss_harmony_state_content = 2,
    }
    gptoss_kv_type {
        gptoss_kv_type_default = 0,
        gptoss_kv_type_f16 = 1,
        gptoss_kv_type_f32 = 2,
    }
    gptoss_special_token {
        gptoss_special_token_invalid = 0,
        gptoss_special_token_return = 1,
        gptoss_special_token_start = 2,
        gptoss_special_token_message = 3,
        gptoss_special_token_end = 4,
        gptoss_special_token_refusal = 5,
        gptoss_special_token_constrain = 6,
        gptoss_special_token_channel = 7,
        gptoss_special_token_call = 8,
        gptoss_special_token_untrusted = 9,
        gptoss_special_token_end_untrusted = 10,
        gptoss_special_token_max = 11,
    }
    gptoss_prompt_lookup {
        gptoss_prompt_lookup_default = 0,
        gptoss_prompt_lookup_off = 1,
        gptoss_prompt_lookup_always = 2,
    }
    gptoss_stop_reason {
        gptoss_stop_reason_none = 0,
        gptoss_stop_reason_max_tokens = 1,
        gptoss_stop_reason_stop_token = 2,
        gptoss_stop_reason_callback = 3,
        gptoss_stop_reason_context_full = 4,
        gptoss_stop_reason_grammar_end = 5,
        gptoss_stop_reason_stop_string = 6,
    }
    gptoss_tap_kind {
        gptoss_tap_kind_embedding = 1,
        gptoss_tap_kind_hidden = 2,
        gptoss_tap_kind_final = 4,
        gptoss_tap_kind_router = 8,
        gptoss_tap_kind_experts = 16,
        gptoss_tap_kind_attention = 32,
    }
    gptoss_pooling {
        gptoss_pooling_last = 0,
        gptoss_pooling_mean = 1,
    }
    gptoss_logprobs {
        gptoss_logprobs_none = 0,
        gptoss_logprobs_model = 1,
        gptoss_logprobs_drawn = 2,
    }
}

structs! {
    gptoss_device_info {
        struct_size: usize,
        name: [c_char; 256],
        driver: [c_char; 256],
        r#type: gptoss_device_type,
        tier: gptoss_kernel_tier,
        memory_size: u64,
        memory_available: u64,
        supported: u32,
        subgroup_size: u32,
        max_allocation_size: u64,
        uuid: [c_char; 40],
    }
    gptoss_model_options {
        struct_size: usize,
        device: *const c_char,
        weights: gptoss_weight_type,
        kv: gptoss_kv_type,
        tier: gptoss_kernel_tier,
        memory_budget: u64,
        progress: gptoss_progress_callback_t,
        progress_user_data: *mut c_void,
        log: gptoss_log_callback_t,
        log_user_data: *mut c_void,
        context_length: u64,
        cache_directory: *const c_char,
        warm_up: u32,
        prefix_cache_bytes: u64,
        adapters: *const *const c_char,
        num_adapters: usize,
    }
    gptoss_model_info {
        struct_size: usize,
        num_layers: u32,
        hidden_size: u32,
        intermediate_size: u32,
        num_heads: u32,
        num_kv_heads: u32,
        head_size: u32,
        num_experts: u32,
        num_active_experts: u32,
        vocabulary_size: u32,
        sliding_window: u32,
        max_context_length: u64,
        weights: gptoss_weight_type,
        kv: gptoss_kv_type,
        tier: gptoss_kernel_tier,
        device: u32,
        weight_bytes: u64,
        bytes_per_token: u64,
        host_weight_bytes: u64,
        num_device_experts: u32,
        expert_hits: u64,
        expert_misses: u64,
        num_variants_left_out: u32,
    }
    gptoss_memory_estimate {
        struct_size: usize,
        weight_bytes: u64,
        host_weight_bytes: u64,
        cache_bytes: u64,
        activation_bytes: u64,
        staging_bytes: u64,
        available_bytes: u64,
        fits: u32,
        prefix_cache_bytes: u64,
        adapter_bytes: u64,
    }
    gptoss_adapter_info {
        struct_size: usize,
        rank: u32,
        device_bytes: u64,
    }
    gptoss_context_stats {
        struct_size: usize,
        cache_bytes: u64,
        activation_bytes: u64,
        cache_bytes_per_token: u64,
        step_dispatches: u32,
        step_barriers: u32,
        prompt_tokens_computed: u64,
        decode_steps: u64,
    }
    gptoss_kernel_time {
        name: [c_char; 32],
        microseconds: f64,
        dispatches: u32,
    }
    gptoss_logprob {
        token: u32,
        logprob: f32,
    }
    gptoss_output {
        struct_size: usize,
        token: u32,
        logprob: f32,
        text: *const c_char,
        text_size: usize,
        top_logprobs: *const gptoss_logprob,
        num_top_logprobs: usize,
    }
    gptoss_tap {
        struct_size: usize,
        kind: gptoss_tap_kind,
        layer: u32,
        position: usize,
        num_rows: usize,
        num_columns: usize,
        values: *const f32,
    }
    gptoss_tap_options {
        struct_size: usize,
        kinds: u32,
        layers: *const u32,
        num_layers: usize,
        positions: *const u32,
        num_positions: usize,
        first_position: usize,
        callback: gptoss_tap_callback_t,
        user_data: *mut c_void,
        values_out: *mut f32,
        max_values: usize,
        num_values_out: *mut usize,
    }
    gptoss_embedding_options {
        struct_size: usize,
        pooling: gptoss_pooling,
        unnormalized: u32,
    }
    gptoss_usage {
        struct_size: usize,
        prompt_tokens: usize,
        cached_tokens: usize,
        generated_tokens: usize,
        forced_tokens: usize,
    }
    gptoss_generate_options {
        struct_size: usize,
        max_tokens: usize,
        stop_tokens: *const u32,
        num_stop_tokens: usize,
        callback: gptoss_token_callback_t,
        user_data: *mut c_void,
        output_callback: gptoss_output_callback_t,
        stop_strings: *const *const c_char,
        num_stop_strings: usize,
        logprobs: gptoss_logprobs,
        num_top_logprobs: u32,
        usage_out: *mut gptoss_usage,
        prompt_lookup: gptoss_prompt_lookup,
    }
    gptoss_generation {
        struct_size: usize,
        context: gptoss_context_t,
        sampler: gptoss_sampler_t,
        options: *const gptoss_generate_options,
        num_tokens: usize,
        stop_reason: gptoss_stop_reason,
        status: gptoss_status,
    }
}

functions! {
    fn gptoss_version() -> u32;
    fn gptoss_status_string(status: gptoss_status) -> *const c_char;
    fn gptoss_last_error() -> *const c_char;

    fn gptoss_device_count(count_out: *mut u32) -> gptoss_status;
    fn gptoss_device_get_info(index: u32, info_out: *mut gptoss_device_info) -> gptoss_status;
    fn gptoss_device_measure_bandwidth(index: u32, bytes_per_second_out: *mut f64) -> gptoss_status;

    fn gptoss_model_create_from_file(path: *const c_char, model_out: *mut gptoss_model_t) -> gptoss_status;
    fn gptoss_model_create(path: *const c_char, options: *const gptoss_model_options, model_out: *mut gptoss_model_t) -> gptoss_status;
    fn gptoss_model_estimate_memory(path: *const c_char, options: *const gptoss_model_options, context_length: usize, max_batch_tokens: usize, estimate_out: *mut gptoss_memory_estimate) -> gptoss_status;
    fn gptoss_model_get_info(model: gptoss_model_t, info_out: *mut gptoss_model_info) -> gptoss_status;
    fn gptoss_model_get_tokenizer(model: gptoss_model_t, tokenizer_out: *mut gptoss_tokenizer_t) -> gptoss_status;
    fn gptoss_model_get_max_context_length(model: gptoss_model_t, max_context_length_out: *mut usize) -> gptoss_status;
    fn gptoss_model_retain(model: gptoss_model_t) -> gptoss_status;
    fn gptoss_model_release(model: gptoss_model_t) -> gptoss_status;

    fn gptoss_tokenizer_create(path: *const c_char, tokenizer_out: *mut gptoss_tokenizer_t) -> gptoss_status;
    fn gptoss_tokenizer_encode(tokenizer: gptoss_tokenizer_t, text: *const c_char, text_length: usize, allow_special: c_int, tokens_out: *mut u32, max_tokens: usize, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_tokenizer_decode(tokenizer: gptoss_tokenizer_t, token: u32, token_ptr_out: *mut *const c_void, token_size_out: *mut usize) -> gptoss_status;
    fn gptoss_tokenizer_decode_tokens(tokenizer: gptoss_tokenizer_t, tokens: *const u32, num_tokens: usize, text_out: *mut c_char, max_size: usize, size_out: *mut usize) -> gptoss_status;
    fn gptoss_tokenizer_get_special_token_id(tokenizer: gptoss_tokenizer_t, token_type: gptoss_special_token, token_id_out: *mut u32) -> gptoss_status;
    fn gptoss_tokenizer_find_special_token(tokenizer: gptoss_tokenizer_t, name: *const c_char, token_id_out: *mut u32) -> gptoss_status;
    fn gptoss_tokenizer_get_special_token_name(tokenizer: gptoss_tokenizer_t, token: u32, name_out: *mut *const c_char) -> gptoss_status;
    fn gptoss_tokenizer_get_num_text_tokens(tokenizer: gptoss_tokenizer_t, num_text_tokens_out: *mut u32) -> gptoss_status;
    fn gptoss_tokenizer_get_num_special_tokens(tokenizer: gptoss_tokenizer_t, num_special_tokens_out: *mut u32) -> gptoss_status;
    fn gptoss_tokenizer_get_num_tokens(tokenizer: gptoss_tokenizer_t, num_tokens_out: *mut u32) -> gptoss_status;
    fn gptoss_tokenizer_retain(tokenizer: gptoss_tokenizer_t) -> gptoss_status;
    fn gptoss_tokenizer_release(tokenizer: gptoss_tokenizer_t) -> gptoss_status;

    fn gptoss_adapter_create(model: gptoss_model_t, path: *const c_char, adapter_out: *mut gptoss_adapter_t) -> gptoss_status;
    fn gptoss_adapter_get_info(adapter: gptoss_adapter_t, info_out: *mut gptoss_adapter_info) -> gptoss_status;
    fn gptoss_adapter_retain(adapter: gptoss_adapter_t) -> gptoss_status;
    fn gptoss_adapter_release(adapter: gptoss_adapter_t) -> gptoss_status;

    fn gptoss_context_create(model: gptoss_model_t, context_length: usize, max_batch_tokens: usize, context_out: *mut gptoss_context_t) -> gptoss_status;
    fn gptoss_context_get_num_tokens(context: gptoss_context_t, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_context_get_max_tokens(context: gptoss_context_t, max_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_context_get_tokens(context: gptoss_context_t, tokens_out: *mut u32, max_tokens: usize, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_context_append_chars(context: gptoss_context_t, text: *const c_char, text_length: usize, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_context_append_tokens(context: gptoss_context_t, num_tokens: usize, tokens: *const u32) -> gptoss_status;
    fn gptoss_context_reset(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_truncate(context: gptoss_context_t, num_tokens: usize) -> gptoss_status;
    fn gptoss_context_process(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_get_logits(context: gptoss_context_t, logits_out: *mut f32, max_logits: usize, num_logits_out: *mut usize) -> gptoss_status;
    fn gptoss_context_sample(context: gptoss_context_t, temperature: f32, seed: u64, max_tokens: usize, tokens_out: *mut u32, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_context_generate(context: gptoss_context_t, sampler: gptoss_sampler_t, options: *const gptoss_generate_options, num_tokens_out: *mut usize, stop_reason_out: *mut gptoss_stop_reason) -> gptoss_status;
    fn gptoss_generate_together(generations: *mut gptoss_generation, num_generations: usize) -> gptoss_status;
    fn gptoss_context_get_logprobs(context: gptoss_context_t, first: usize, num_tokens: usize, num_top: usize, logprobs_out: *mut f32, top_out: *mut gptoss_logprob) -> gptoss_status;
    fn gptoss_context_cancel(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_clear_cancel(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_fork(context: gptoss_context_t, context_out: *mut gptoss_context_t) -> gptoss_status;
    fn gptoss_context_save(context: gptoss_context_t, state_out: *mut c_void, max_size: usize, size_out: *mut usize) -> gptoss_status;
    fn gptoss_context_restore(context: gptoss_context_t, state: *const c_void, size: usize) -> gptoss_status;
    fn gptoss_context_set_adapter(context: gptoss_context_t, adapter: gptoss_adapter_t, scale: f32) -> gptoss_status;
    fn gptoss_context_retain(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_release(context: gptoss_context_t) -> gptoss_status;
    fn gptoss_context_get_stats(context: gptoss_context_t, stats_out: *mut gptoss_context_stats) -> gptoss_status;
    fn gptoss_context_profile(context: gptoss_context_t, num_tokens: usize, sampler: gptoss_sampler_t, times_out: *mut gptoss_kernel_time, max_times: usize, num_times_out: *mut usize) -> gptoss_status;
    fn gptoss_context_set_tap(context: gptoss_context_t, options: *const gptoss_tap_options) -> gptoss_status;
    fn gptoss_model_embed(model: gptoss_model_t, num_texts: usize, tokens: *const u32, num_tokens: *const usize, options: *const gptoss_embedding_options, embeddings_out: *mut f32) -> gptoss_status;

    fn gptoss_model_unembed(model: gptoss_model_t, num_states: usize, states: *const f32, logits_out: *mut f32) -> gptoss_status;
    fn gptoss_sampler_create(sampler_out: *mut gptoss_sampler_t) -> gptoss_status;
    fn gptoss_sampler_set_temperature(sampler: gptoss_sampler_t, temperature: f32) -> gptoss_status;
    fn gptoss_sampler_set_top_k(sampler: gptoss_sampler_t, top_k: u32) -> gptoss_status;
    fn gptoss_sampler_set_top_p(sampler: gptoss_sampler_t, top_p: f32) -> gptoss_status;
    fn gptoss_sampler_set_min_p(sampler: gptoss_sampler_t, min_p: f32) -> gptoss_status;
    fn gptoss_sampler_set_presence_penalty(sampler: gptoss_sampler_t, presence_penalty: f32) -> gptoss_status;
    fn gptoss_sampler_set_frequency_penalty(sampler: gptoss_sampler_t, frequency_penalty: f32) -> gptoss_status;
    fn gptoss_sampler_set_repetition_penalty(sampler: gptoss_sampler_t, repetition_penalty: f32) -> gptoss_status;
    fn gptoss_sampler_set_logit_bias(sampler: gptoss_sampler_t, num_biases: usize, tokens: *const u32, biases: *const f32) -> gptoss_status;
    fn gptoss_sampler_set_grammar(sampler: gptoss_sampler_t, grammar: gptoss_grammar_t) -> gptoss_status;
    fn gptoss_sampler_set_seed(sampler: gptoss_sampler_t, seed: u64) -> gptoss_status;
    fn gptoss_sampler_retain(sampler: gptoss_sampler_t) -> gptoss_status;
    fn gptoss_sampler_release(sampler: gptoss_sampler_t) -> gptoss_status;

    fn gptoss_grammar_create_from_json_schema(tokenizer: gptoss_tokenizer_t, schema: *const c_char, length: usize, grammar_out: *mut gptoss_grammar_t) -> gptoss_status;
    fn gptoss_grammar_create_from_regex(tokenizer: gptoss_tokenizer_t, regex: *const c_char, length: usize, grammar_out: *mut gptoss_grammar_t) -> gptoss_status;
    fn gptoss_grammar_create_from_gbnf(tokenizer: gptoss_tokenizer_t, gbnf: *const c_char, length: usize, grammar_out: *mut gptoss_grammar_t) -> gptoss_status;
    fn gptoss_grammar_create_from_harmony(tokenizer: gptoss_tokenizer_t, options_json: *const c_char, length: usize, grammar_out: *mut gptoss_grammar_t) -> gptoss_status;
    fn gptoss_grammar_retain(grammar: gptoss_grammar_t) -> gptoss_status;
    fn gptoss_grammar_release(grammar: gptoss_grammar_t) -> gptoss_status;

    fn gptoss_harmony_render(tokenizer: gptoss_tokenizer_t, conversation_json: *const c_char, length: usize, tokens_out: *mut u32, max_tokens: usize, num_tokens_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_create(tokenizer: gptoss_tokenizer_t, parser_out: *mut gptoss_harmony_parser_t) -> gptoss_status;
    fn gptoss_harmony_parser_process(parser: gptoss_harmony_parser_t, token: u32) -> gptoss_status;
    fn gptoss_harmony_parser_reset(parser: gptoss_harmony_parser_t) -> gptoss_status;
    fn gptoss_harmony_parser_get_role(parser: gptoss_harmony_parser_t, text_out: *mut *const c_char, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_get_channel(parser: gptoss_harmony_parser_t, text_out: *mut *const c_char, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_get_recipient(parser: gptoss_harmony_parser_t, text_out: *mut *const c_char, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_get_content_type(parser: gptoss_harmony_parser_t, text_out: *mut *const c_char, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_get_delta(parser: gptoss_harmony_parser_t, text_out: *mut *const c_char, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_get_state(parser: gptoss_harmony_parser_t, state_out: *mut gptoss_harmony_state) -> gptoss_status;
    fn gptoss_harmony_parser_is_malformed(parser: gptoss_harmony_parser_t, malformed_out: *mut c_int) -> gptoss_status;
    fn gptoss_harmony_parser_get_messages(parser: gptoss_harmony_parser_t, json_out: *mut c_char, max_size: usize, size_out: *mut usize) -> gptoss_status;
    fn gptoss_harmony_parser_retain(parser: gptoss_harmony_parser_t) -> gptoss_status;
    fn gptoss_harmony_parser_release(parser: gptoss_harmony_parser_t) -> gptoss_status;
}

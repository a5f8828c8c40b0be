/*
 * libgptoss: OpenAI's gpt-oss models on any Vulkan GPU, inside your own program.
 *
 * Two ideas carry the whole interface. A model is a loaded checkpoint: immutable, shared by any number of threads.
 * A context is one timeline of tokens over a model: mutable, used by one thread at a time. You append tokens to a
 * context and sample the next ones from it:
 *
 *     gptoss_model_t model;
 *     gptoss_context_t context;
 *     uint32_t tokens[64];
 *     size_t n;
 *     gptoss_model_create_from_file("gpt-oss-20b", &model);
 *     gptoss_context_create(model, 0, 0, &context);
 *     gptoss_context_append_chars(context, "The capital of France is", 24, NULL);
 *     gptoss_context_sample(context, 0.0f, 0, 64, tokens, &n);
 *
 * Errors. Every call that can fail returns enum gptoss_status; gptoss_last_error() then says what failed, with the
 * file, the tensor or the value named. After a failure outputs hold NULL or zero, except where a function says
 * otherwise, and every handle stays usable.
 *
 * Ownership. Handles are reference counted: _create gives one reference, _retain adds one, _release drops one (NULL is
 * allowed). A context keeps its model alive, a model its tokenizer.
 *
 * Threads. Models, tokenizers, grammars, adapters and devices may be used from any number of threads at once; contexts,
 * samplers and parsers by one thread at a time, except gptoss_context_cancel and _clear_cancel, which any thread may
 * call. Different contexts of one model may run on different threads, forks too. A call on a context or a parser that
 * another thread's call is using fails with invalid_state. More below, under Threads and Process.
 *
 * Options. An options struct begins with struct_size, which the caller sets to sizeof of the struct it was compiled
 * with; a zero field means the default, and NULL in place of the struct means all defaults. Structs grow only at
 * their end; a struct_size smaller than the struct's in its first version is invalid_argument. Structs that a call
 * fills in follow the same rule, but for gptoss_kernel_time, which never grows.
 *
 * Versions. Enum values and function signatures never change within a major version; new ones may be added at the
 * end. A program compiled for version x.y runs with every x.z where z >= y.
 *
 * The core of the interface is source compatible with the C interface of OpenAI's own Metal implementation.
 *
 * Threads and Process.
 *
 * - Releasing. A running call holds what it uses: a callback, or another thread, may release the context that
 *   generates, its model or its sampler, and the handle goes when the call ends. A call must not begin on a handle
 *   whose last reference another thread may be dropping: give each thread a reference of its own.
 * - Callbacks run on a thread that is within a call and should be quick, since the call waits for them. They may call
 *   any function; one that does not fit what their context does gives invalid_state. They must return: a longjmp, a C++
 *   exception or pthread_exit out of a callback leaves the context busy for good, and its memory is never freed.
 * - Forks. A device does not survive fork(). In a child that was forked while the parent had any device, model or
 *   context, every call that needs a device fails with invalid_state, and releasing a model or a context does nothing,
 *   so that the child's destructors and exit() are safe. Tokenizers, grammars, samplers, parsers and
 *   gptoss_harmony_render work there. A child that was forked before the first handle or after the last was released
 *   may load models itself. A callback may fork only to exec.
 * - Floating point. Calls compute in the default environment, whatever the caller's: rounding, flush-to-zero as
 *   programs built with -ffast-math set it, unmasked exceptions. Callbacks get the caller's, and it is back when the
 *   call returns.
 * - Signals. The library installs no handler, changes no signal's action and raises none: no SIGPIPE, no SIGFPE, and no
 *   SIGXFSZ at a file size limit, but for what a driver itself writes: those of a CPU may keep memory in a file.
 *   Interrupted system calls go on. None of its functions may be called from a handler: set a flag there that a
 *   callback looks at.
 * - Threads of its own. A model's loading uses up to four, which end with the call. The Vulkan driver has its own,
 *   which end with the last handle of the process: after the last release none is left. Libraries that were loaded stay
 *   loaded, this one too, after dlclose.
 * - Stacks. A calling thread needs 512 KB of stack; the driver's compiler takes the most of it.
 * - The end. At exit() or the return of main handles may still be alive, and may be released in static destructors and
 *   atexit handlers, as long as no other thread is in a call by then.
 * - The library keeps no other state for the process, reads only the environment variables that name the user's cache
 *   directory, and prints nothing. It writes to the cache directory only, where folders that it makes are the user's
 *   alone.
 */
#ifndef GPTOSS_H
#define GPTOSS_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header; gptoss_version() gives that of the library. */
#define GPTOSS_VERSION_MAJOR 0
#define GPTOSS_VERSION_MINOR 2
#define GPTOSS_VERSION_PATCH 0

#ifndef GPTOSS_ABI
#if defined(_WIN32)
#define GPTOSS_ABI __declspec(dllimport)
#elif defined(__GNUC__)
#define GPTOSS_ABI __attribute__((visibility("default")))
#else
#define GPTOSS_ABI
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------------------ status, version */

enum gptoss_status {
    gptoss_status_success = 0,
    gptoss_status_invalid_argument = 1,       /* a NULL, a NaN, a value out of range: the caller's mistake */
    gptoss_status_unsupported_argument = 2,   /* well formed, but not something this library or this device can do */
    gptoss_status_invalid_state = 3,          /* the call does not fit what the handle is doing */
    gptoss_status_io_error = 4,               /* a file that is missing, unreadable, truncated or malformed */
    gptoss_status_insufficient_memory = 5,    /* host or device memory is short */
    gptoss_status_insufficient_resources = 6, /* a device limit other than memory is reached */
    gptoss_status_unsupported_system = 7,     /* no Vulkan loader, no device, or none that can run the kernels */
    gptoss_status_context_overflow = 8,       /* more tokens than the context can hold */
    gptoss_status_device_lost = 9,            /* the GPU was lost; create a new model to go on */
    gptoss_status_cancelled = 10,             /* stopped by gptoss_context_cancel or a progress callback */
    gptoss_status_internal_error = 11,        /* a defect of this library */
};

/* The version of the library that is loaded, as major * 10000 + minor * 100 + patch. Never fails. */
GPTOSS_ABI uint32_t gptoss_version(void);

/* A short English name of a status, such as "io error"; static storage. Never NULL, for any value. */
GPTOSS_ABI const char* gptoss_status_string(enum gptoss_status status);

/* What failed in the last call of this thread that did not succeed; "" if none. Valid until this thread's next failure.
 * One line of up to 1023 bytes; control characters and what is not UTF-8 in it are U+FFFD.
 */
GPTOSS_ABI const char* gptoss_last_error(void);

enum gptoss_log_level {
    gptoss_log_level_error = 1,
    gptoss_log_level_warning = 2,
    gptoss_log_level_info = 3,
};

/*
 * Receives one line without its newline; control characters and what is not UTF-8 in it are U+FFFD. May be called from
 * any thread that uses the model.
 */
typedef void (*gptoss_log_callback_t)(void* user_data, enum gptoss_log_level level, const char* message);

/* ---------------------------------------------------------------------------------------------------------- devices */

enum gptoss_device_type {
    gptoss_device_type_other = 0,
    gptoss_device_type_integrated_gpu = 1,
    gptoss_device_type_discrete_gpu = 2,
    gptoss_device_type_virtual_gpu = 3,
    gptoss_device_type_cpu = 4,
};

/* Which kernels run the matrix products; every tier accumulates in float32. What a device lacks is refused by name. */
enum gptoss_kernel_tier {
    gptoss_kernel_tier_default = 0, /* the fastest tier that passes its self-test on the device */
    gptoss_kernel_tier_exact = 1,   /* float32 arithmetic throughout: runs on every device */
    gptoss_kernel_tier_coopmat = 2, /* VK_KHR_cooperative_matrix: float16 products, float32 sums */
    /*
     * VK_KHR_shader_integer_dot_product: as exact, but that in batches of 32 tokens and more the experts multiply
     * activations rounded to 16 bits, a block of 32 by one scale. For devices without cooperative matrices; only where
     * it is asked for, never by default.
     */
    gptoss_kernel_tier_integer = 3,
};

struct gptoss_device_info {
    size_t struct_size;
    char name[256];   /* as the driver gives it */
    char driver[256]; /* driver name and version */
    enum gptoss_device_type type;
    enum gptoss_kernel_tier tier; /* the fastest tier that the device reports to support, of those used by default */
    uint64_t memory_size;         /* device-local memory, bytes */
    uint64_t memory_available;    /* what of it is free now, bytes; equals memory_size where the driver can't tell */
    uint32_t supported;           /* 1 if gpt-oss can run on it */
    uint32_t subgroup_size;
    uint64_t max_allocation_size; /* largest single allocation, bytes */
    /*
     * The device's UUID as 8-4-4-4-12 hexadecimal digits, lower case: the same in every process and after a restart,
     * where indices may change. "" if the driver has none to tell. Since 0.2.
     */
    char uuid[40];
};

/*
 * Counts the Vulkan devices of this machine. A machine without Vulkan has none: count 0 and success.
 */
GPTOSS_ABI enum gptoss_status gptoss_device_count(uint32_t* count_out);

/* Describes device `index` (0 ≤ index < count); the caller sets info_out->struct_size. */
GPTOSS_ABI enum gptoss_status gptoss_device_get_info(uint32_t index, struct gptoss_device_info* info_out);

/*
 * Measures how fast the device copies its own memory: bytes read and bytes written a second, together. Takes about a
 * second and up to 512 MB of device memory.
 */
GPTOSS_ABI enum gptoss_status gptoss_device_measure_bandwidth(uint32_t index, double* bytes_per_second_out);

/* ------------------------------------------------------------------------------------------------------------ model */

/* Handles: see Ownership and Threads above. */
typedef struct gptoss_model* gptoss_model_t;
typedef struct gptoss_tokenizer* gptoss_tokenizer_t;
typedef struct gptoss_context* gptoss_context_t;
typedef struct gptoss_sampler* gptoss_sampler_t;
typedef struct gptoss_harmony_parser* gptoss_harmony_parser_t;
typedef struct gptoss_grammar* gptoss_grammar_t;
typedef struct gptoss_adapter* gptoss_adapter_t;

/* How the dense weights (attention, router, embedding, lm_head) are held in device memory. Experts are always MXFP4. */
enum gptoss_weight_type {
    gptoss_weight_type_default = 0, /* as in the file */
    gptoss_weight_type_bf16 = 1,
    gptoss_weight_type_q8 = 2, /* 8-bit integers with a float16 scale per 32 */
};

enum gptoss_kv_type {
    gptoss_kv_type_default = 0, /* float16 */
    gptoss_kv_type_f16 = 1,     /* in full-context layers; the short windows of the others are float32 in either */
    gptoss_kv_type_f32 = 2,
};

/*
 * Called while a model loads, with bytes of weights; a non-zero result cancels the load. Before that, while the device
 * is tested for the first time, it is called with bytes_done 0, and can cancel that too.
 */
typedef int (*gptoss_progress_callback_t)(void* user_data, uint64_t bytes_done, uint64_t bytes_total);

struct gptoss_model_options {
    size_t struct_size;
    const char* device; /* an index ("0"), a UUID or a part of a name ("RTX"); NULL: the most capable device */
    enum gptoss_weight_type weights;
    enum gptoss_kv_type kv;
    enum gptoss_kernel_tier tier;
    uint64_t memory_budget; /* device memory the model and its contexts may take, bytes; 0: what the device has */
    gptoss_progress_callback_t progress;
    void* progress_user_data;
    gptoss_log_callback_t log; /* lives as long as the model */
    void* log_user_data;
    uint64_t context_length; /* device memory is kept free of experts for a context so long, tokens; 0: 8192 */
    /*
     * Where compiled kernels and the result of the self-test are kept between runs, which only load faster for it:
     * NULL for the folder libgptoss in the user's cache directory ($XDG_CACHE_HOME, else ~/.cache), "" for nowhere.
     */
    const char* cache_directory;
    uint32_t warm_up; /* 1: build the kernels now that the first answer would else wait for. Since 0.2. */
    /*
     * The most device memory, bytes, that keys and values may take which no context holds: beginnings of what contexts
     * computed, for contexts that come to have the same tokens, and for going back to the start of a message. What is
     * used least recently is dropped, all of it where memory is short for anything else. 0: an eighth of what the
     * weights leave; 1: none is kept. Since 0.2.
     */
    uint64_t prefix_cache_bytes;
    /*
     * Paths of adapters that the model will get (see gptoss_adapter_create), which this loads none of: the memory that
     * they take is in the estimate, and where experts must be left in host memory, device memory is kept free of them
     * for it. Errors of a path are those of gptoss_adapter_create. Since 0.2.
     */
    const char* const* adapters;
    size_t num_adapters;
};

struct gptoss_model_info {
    size_t struct_size;
    uint32_t num_layers;
    uint32_t hidden_size;
    uint32_t intermediate_size; /* of one expert */
    uint32_t num_heads;
    uint32_t num_kv_heads;
    uint32_t head_size;
    uint32_t num_experts;
    uint32_t num_active_experts; /* per token */
    uint32_t vocabulary_size;    /* rows of the output projection */
    uint32_t sliding_window;     /* positions, the current one among them */
    uint64_t max_context_length; /* positions */
    enum gptoss_weight_type weights;
    enum gptoss_kv_type kv;
    enum gptoss_kernel_tier tier;   /* what runs, after the self-test */
    uint32_t device;                /* index */
    uint64_t weight_bytes;          /* device memory held by the weights */
    uint64_t bytes_per_token;       /* weights read to decode one token, without the cache */
    uint64_t host_weight_bytes;     /* host memory held by weights that the device reads from there */
    uint32_t num_device_experts;    /* of num_layers * num_experts, those that are in device memory now */
    uint64_t expert_hits;           /* uses of experts that were in device memory; 0 where all are */
    uint64_t expert_misses;         /* uses of experts that were read from host memory */
    uint32_t num_variants_left_out; /* better variants of the kernels that failed the self-test; the log names them */
};

struct gptoss_memory_estimate {
    size_t struct_size;
    uint64_t weight_bytes;      /* device memory of the weights */
    uint64_t host_weight_bytes; /* host memory of weights that the device reads from there */
    uint64_t cache_bytes; /* device memory of the keys and values of one context once it is full; empty, it has none */
    uint64_t activation_bytes; /* device memory that the model's contexts work in, once for all of them */
    uint64_t staging_bytes;    /* host memory to load through or, if more, of the context */
    uint64_t available_bytes;  /* device memory: the budget, or what is free now */
    uint32_t fits;             /* 1 if there is room for all that; if not, the weights are those of a model that fits */
    uint64_t prefix_cache_bytes; /* the most that options.prefix_cache_bytes then is, given up as needed. Since 0.2 */
    uint64_t adapter_bytes;      /* device memory of options.adapters; what computing with them takes is in
                                    activation_bytes. Since 0.2 */
};

/*
 * Loads a model with default options.
 *
 * path: a Hugging Face directory (config.json and .safetensors files), OpenAI's original/ directory, a GGUF file of any
 * name, the directory of a model in Hugging Face's cache, or any file of one of these; a NUL-terminated string.
 * docs/models.md lists what loads. On success stores the model in model_out.
 * Errors: io_error (names the file and tensor), unsupported_system, insufficient_memory.
 *
 * Before the first model of a kind is loaded on a device, which the log says, a self-test compares every kernel with
 * the CPU. A variant of the kernels that gives wrong results is left out for a simpler one, and the log says so; if all
 * of them do, unsupported_system names the device and the kernel.
 */
GPTOSS_ABI enum gptoss_status gptoss_model_create_from_file(const char* path, gptoss_model_t* model_out);

/* The same with options; options may be NULL. Also: cancelled by the progress callback. */
GPTOSS_ABI enum gptoss_status gptoss_model_create(const char* path, const struct gptoss_model_options* options,
                                                  gptoss_model_t* model_out);

/*
 * How much memory a model loaded with these options and one context of it would take; path and options as for
 * gptoss_model_create, context_length and max_batch_tokens as for gptoss_context_create. Reads the files' headers and
 * loads nothing; the caller sets estimate_out->struct_size. Where device memory, or the budget, is too small for the
 * weights, the embedding and then experts are placed in host memory, where the device reads them, and the experts that
 * are used most get copies in what device memory is left. Too little room even for that is no error: see fits.
 * Errors: io_error (names the file and tensor), unsupported_system, invalid_argument. Since 0.1.
 */
GPTOSS_ABI enum gptoss_status gptoss_model_estimate_memory(const char* path, const struct gptoss_model_options* options,
                                                           size_t context_length, size_t max_batch_tokens,
                                                           struct gptoss_memory_estimate* estimate_out);

/* Describes the model; the caller sets info_out->struct_size. */
GPTOSS_ABI enum gptoss_status gptoss_model_get_info(gptoss_model_t model, struct gptoss_model_info* info_out);

/* Stores a new reference to the model's tokenizer in tokenizer_out: its own where it brings one, else o200k_harmony. */
GPTOSS_ABI enum gptoss_status gptoss_model_get_tokenizer(gptoss_model_t model, gptoss_tokenizer_t* tokenizer_out);

/* The longest context the model supports, in tokens. */
GPTOSS_ABI enum gptoss_status gptoss_model_get_max_context_length(gptoss_model_t model, size_t* max_context_length_out);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_model_retain(gptoss_model_t model);
GPTOSS_ABI enum gptoss_status gptoss_model_release(gptoss_model_t model);

/* -------------------------------------------------------------------------------------------------------- tokenizer */

enum gptoss_special_token {
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
    gptoss_special_token_max,
};

/*
 * Creates a tokenizer, without a model or a GPU.
 *
 * path: NULL for the built-in o200k_harmony; a tokenizer.json, a .tiktoken or a GGUF file, recognised by its content;
 * or a directory that holds one of them. A .tiktoken file has no special tokens: o200k_harmony's follow its last rank.
 * Errors: io_error names the file and what is wrong in it, unsupported_argument what this library lacks.
 */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_create(const char* path, gptoss_tokenizer_t* tokenizer_out);

/*
 * Encodes UTF-8 text. Any bytes are accepted and come back from gptoss_tokenizer_decode_tokens: what is not UTF-8 is
 * encoded byte by byte, apart from the text around it. allow_special: non-zero makes "<|start|>" and the like special
 * tokens, zero encodes them as plain text. Stores up to max_tokens tokens and the count of all in num_tokens_out, which
 * can exceed max_tokens; tokens_out may be NULL when max_tokens is 0.
 */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_encode(gptoss_tokenizer_t tokenizer, const char* text,
                                                      size_t text_length, int allow_special, uint32_t* tokens_out,
                                                      size_t max_tokens, size_t* num_tokens_out);

/*
 * The bytes of one text token (half a character is normal); they live as long as the tokenizer and are not terminated.
 * Error: invalid_argument for a special token and for one that does not exist.
 */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_decode(gptoss_tokenizer_t tokenizer, uint32_t token,
                                                      const void** token_ptr_out, size_t* token_size_out);

/*
 * The bytes of a span of tokens, special ones by name. Stores up to max_size bytes, unterminated, and the count of all
 * in size_out, which can exceed max_size. Error: invalid_argument names a token that does not exist.
 */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_decode_tokens(gptoss_tokenizer_t tokenizer, const uint32_t* tokens,
                                                             size_t num_tokens, char* text_out, size_t max_size,
                                                             size_t* size_out);

/* The id of a special token. Error: invalid_argument if the vocabulary has none such. */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_get_special_token_id(gptoss_tokenizer_t tokenizer,
                                                                    enum gptoss_special_token token_type,
                                                                    uint32_t* token_id_out);

/* The id of a special token by its name, such as "<|start|>" (NUL-terminated). */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_find_special_token(gptoss_tokenizer_t tokenizer, const char* name,
                                                                  uint32_t* token_id_out);

/* The name of a special token, NUL-terminated, for as long as the tokenizer lives. */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_get_special_token_name(gptoss_tokenizer_t tokenizer, uint32_t token,
                                                                      const char** name_out);

/*
 * How many text tokens and special tokens there are; get_num_tokens is the sum. In o200k_harmony text tokens come first
 * (199,998), special ones, reserved ones among them, after (1,090). A model's own vocabulary may mix them or leave
 * gaps.
 */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_get_num_text_tokens(gptoss_tokenizer_t tokenizer,
                                                                   uint32_t* num_text_tokens_out);
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_get_num_special_tokens(gptoss_tokenizer_t tokenizer,
                                                                      uint32_t* num_special_tokens_out);
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_get_num_tokens(gptoss_tokenizer_t tokenizer, uint32_t* num_tokens_out);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_retain(gptoss_tokenizer_t tokenizer);
GPTOSS_ABI enum gptoss_status gptoss_tokenizer_release(gptoss_tokenizer_t tokenizer);

/* --------------------------------------------------------------------------------------------------------- adapters */

/*
 * Loads a LoRA adapter of a model: low-rank matrices whose products are added to those of the model's own weights, for
 * the contexts that gptoss_context_set_adapter gives it to. The model stays as it is; any number of adapters share it.
 *
 * path: a directory of PEFT's (adapter_config.json and adapter_model.safetensors), one of these files, or a GGUF file
 * as llama.cpp's convert_lora_to_gguf.py makes it; a NUL-terminated string. It may change attention (q, k, v, o) and
 * experts, in any layers; docs/models.md lists the forms. What cannot be applied is refused, never left out: DoRA,
 * modules_to_save, biases, the router, the embedding, lm_head, and any tensor without a place in this model.
 * An adapter keeps its model alive. Errors: io_error (names the file and the tensor), insufficient_memory,
 * insufficient_resources. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_adapter_create(gptoss_model_t model, const char* path,
                                                    gptoss_adapter_t* adapter_out);

/* Since 0.2. */
struct gptoss_adapter_info {
    size_t struct_size;
    uint32_t rank;         /* the largest of a matrix */
    uint64_t device_bytes; /* device memory that it holds */
};

/* Describes the adapter; the caller sets info_out->struct_size. Since 0.2. */
GPTOSS_ABI enum gptoss_status gptoss_adapter_get_info(gptoss_adapter_t adapter, struct gptoss_adapter_info* info_out);

/* Adds a reference; drops one. Since 0.2. */
GPTOSS_ABI enum gptoss_status gptoss_adapter_retain(gptoss_adapter_t adapter);
GPTOSS_ABI enum gptoss_status gptoss_adapter_release(gptoss_adapter_t adapter);

/* ---------------------------------------------------------------------------------------------------------- context */

/*
 * Creates an empty context.
 *
 * context_length: the most tokens it can hold; 0 for the model's maximum. max_batch_tokens: the most tokens of a prompt
 * that are processed at once; 0 for the default. An empty context takes no device memory of its own; it grows with the
 * tokens, not with context_length. All contexts of a model work in the same memory, which grows with the largest
 * max_batch_tokens and with how many of them generate at once.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_create(gptoss_model_t model, size_t context_length,
                                                    size_t max_batch_tokens, gptoss_context_t* context_out);

/* How many tokens the context holds, and how many it can. */
GPTOSS_ABI enum gptoss_status gptoss_context_get_num_tokens(gptoss_context_t context, size_t* num_tokens_out);
GPTOSS_ABI enum gptoss_status gptoss_context_get_max_tokens(gptoss_context_t context, size_t* max_tokens_out);

/* Stores up to max_tokens of the context's tokens and the count of all in num_tokens_out. */
GPTOSS_ABI enum gptoss_status gptoss_context_get_tokens(gptoss_context_t context, uint32_t* tokens_out,
                                                        size_t max_tokens, size_t* num_tokens_out);

/*
 * Tokenizes text and appends it; num_tokens_out (may be NULL) gets the tokens appended.
 * Warning: "<|start|>", "<|end|>" and the like in the text become special tokens, so that whoever wrote the text can
 * end a turn and begin another in any role. Never append text of a user, a file or a tool by it: make the conversation
 * with gptoss_harmony_render, or encode the text with gptoss_tokenizer_encode, allow_special 0, and append the tokens.
 * Error: context_overflow, and nothing is appended.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_append_chars(gptoss_context_t context, const char* text,
                                                          size_t text_length, size_t* num_tokens_out);

/* Appends tokens. Errors: invalid_argument for a token outside the vocabulary, context_overflow; nothing is appended.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_append_tokens(gptoss_context_t context, size_t num_tokens,
                                                           const uint32_t* tokens);

/*
 * Empties the context. What it had computed stays cached: tokens appended next that equal the old ones are not
 * computed again. Where a conversation is rendered anew without its earlier reasoning, only what follows the last
 * prompt that both have is computed. What other contexts of the model computed counts too, also after their release:
 * see gptoss_model_options.prefix_cache_bytes.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_reset(gptoss_context_t context);

/* Keeps the first num_tokens tokens. Error: invalid_argument if the context holds fewer. */
GPTOSS_ABI enum gptoss_status gptoss_context_truncate(gptoss_context_t context, size_t num_tokens);

/* Computes whatever was appended and not computed yet. Sampling does it too; call it to do the work ahead of time. */
GPTOSS_ABI enum gptoss_status gptoss_context_process(gptoss_context_t context);

/*
 * The logits of the token that would follow, before any temperature or penalty; processes the context if need be.
 * Stores up to max_logits float32 values and the size of the vocabulary in num_logits_out.
 * Error: invalid_state if the context is empty.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_get_logits(gptoss_context_t context, float* logits_out, size_t max_logits,
                                                        size_t* num_logits_out);

/*
 * Samples max_tokens tokens, appends each to the context, and stores them in tokens_out. temperature: finite and
 * ≥ 0, 0 takes the most likely token. The same tokens, temperature and seed give the same result. Fewer tokens come
 * back when the context is full. Special tokens do not stop it: see gptoss_context_generate.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_sample(gptoss_context_t context, float temperature, uint64_t seed,
                                                    size_t max_tokens, uint32_t* tokens_out, size_t* num_tokens_out);

enum gptoss_stop_reason {
    gptoss_stop_reason_none = 0,
    gptoss_stop_reason_max_tokens = 1,
    gptoss_stop_reason_stop_token = 2,
    gptoss_stop_reason_callback = 3,
    gptoss_stop_reason_context_full = 4,
    gptoss_stop_reason_grammar_end = 5, /* nothing can follow in the sampler's grammar. Since 0.2 */
    gptoss_stop_reason_stop_string = 6, /* Since 0.2 */
};

/*
 * Receives each token as it is sampled, after it was appended; a non-zero result stops the generation. It may ask the
 * context for its tokens and cancel it; what changes or computes gives invalid_state.
 */
typedef int (*gptoss_token_callback_t)(void* user_data, uint32_t token);

/*
 * Whether tokens that stood in the context before are tried again: where the last few tokens stand in it a second time,
 * those that followed them are computed beside the next token, several in one forward pass, and kept as long as they
 * are what is sampled. That changes no token, sampled ones neither, on devices whose kernels compute a token alike in
 * any batch, a CPU among them, and elsewhere but for rounding. It pays where an answer repeats much of its prompt, such
 * as a text with small changes. Only a context that generates alone does it, without penalties. Since 0.2.
 */
enum gptoss_prompt_lookup {
    gptoss_prompt_lookup_default = 0, /* where it pays, by what was right before and by how long steps take */
    gptoss_prompt_lookup_off = 1,
    gptoss_prompt_lookup_always = 2, /* wherever there is something to try */
};

/* Which log-probabilities a generation tells. Since 0.2. */
enum gptoss_logprobs {
    gptoss_logprobs_none = 0,
    gptoss_logprobs_model = 1, /* of the model's own distribution: before bias, penalties, temperature and filters */
    gptoss_logprobs_drawn = 2, /* of the distribution that is drawn from: after all of them, and after the grammar */
};

/* An element of an array, so that its size is fixed: this struct has no struct_size and never grows. Since 0.2. */
struct gptoss_logprob {
    uint32_t token;
    float logprob; /* natural logarithm; -INFINITY for a token that cannot be drawn */
};

/* What a generation tells of a token, until the callback returns. Since 0.2. */
struct gptoss_output {
    size_t struct_size;
    uint32_t token;
    float logprob; /* of the token; 0 unless asked for */
    const char*
        text; /* what the answer's text grew by: UTF-8, NUL-terminated, whole characters, without special tokens;
                 what may begin a stop string waits until it is none, and what is not UTF-8 becomes U+FFFD */
    size_t text_size;                          /* bytes */
    const struct gptoss_logprob* top_logprobs; /* (num_top_logprobs) the likeliest tokens first; ties: the lower id */
    size_t num_top_logprobs;
};

/* As gptoss_token_callback_t. Since 0.2. */
typedef int (*gptoss_output_callback_t)(void* user_data, const struct gptoss_output* output);

/* Tokens that a generation counts. Since 0.2. */
struct gptoss_usage {
    size_t struct_size;
    size_t prompt_tokens;    /* that the context held before */
    size_t cached_tokens;    /* of those, whose keys and values were there */
    size_t generated_tokens; /* as num_tokens_out */
    size_t forced_tokens;    /* of those, which the grammar left no choice for, and which took no step of their own */
};

struct gptoss_generate_options {
    size_t struct_size;
    size_t max_tokens;           /* 0: until a stop token or until the context is full */
    const uint32_t* stop_tokens; /* NULL: <|return|>, <|call|> and <|endoftext|> where the vocabulary has them, and
                                    what the model's files name as eos_token_id */
    size_t num_stop_tokens;
    gptoss_token_callback_t callback;
    void* user_data;
    gptoss_output_callback_t output_callback; /* called after callback, where both are there. Since 0.2 */
    const char* const* stop_strings;          /* a text that ends the answer as soon as it stands in it, and is in no
                                                 output's text; special tokens are no text. Since 0.2 */
    size_t num_stop_strings;                  /* Since 0.2 */
    enum gptoss_logprobs logprobs;            /* Since 0.2 */
    uint32_t num_top_logprobs;                /* of each output; up to 256. Since 0.2 */
    struct gptoss_usage* usage_out;           /* filled when the generation ends; its struct_size is set by the caller;
                                                 may be NULL. Since 0.2 */
    enum gptoss_prompt_lookup prompt_lookup;  /* Since 0.2 */
};

/*
 * Generates a stream of tokens. The stop token itself is appended and handed to the callback, and so are the tokens
 * that spell a stop string. sampler: NULL for greedy; options: NULL for all defaults. num_tokens_out and
 * stop_reason_out may be NULL. On an error or a cancellation, tokens handed to the callback stay in the context, and
 * num_tokens_out counts them.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_generate(gptoss_context_t context, gptoss_sampler_t sampler,
                                                      const struct gptoss_generate_options* options,
                                                      size_t* num_tokens_out, enum gptoss_stop_reason* stop_reason_out);

/* One of the generations of gptoss_generate_together. Since 0.2. */
struct gptoss_generation {
    size_t struct_size;                            /* the same in all of them: it says where the next one begins */
    gptoss_context_t context;                      /* another one in each */
    gptoss_sampler_t sampler;                      /* NULL: greedy */
    const struct gptoss_generate_options* options; /* NULL: all defaults; the callback gets its own user_data */
    size_t num_tokens;                             /* the outcome, as of gptoss_context_generate */
    enum gptoss_stop_reason stop_reason;
    enum gptoss_status status;
};

/*
 * Generates in several contexts of one model at once, each as gptoss_context_generate does alone: with the same tokens
 * on devices whose kernels compute a token alike in any batch, a CPU among them, and elsewhere but for rounding. A step
 * takes little longer for many contexts than for one, so that all of them together get several times the tokens a
 * second. Calls that threads make on different contexts at the same time share their steps too; this is for one thread.
 *
 * Returns once all have ended. Callbacks come on the calling thread. A generation that fails or is cancelled ends
 * alone, with its own status; the result is success if all succeeded, else the status of the first that did not, which
 * gptoss_last_error then describes. Errors before anything runs: invalid_argument for a context that is NULL, of
 * another model or there twice, and for a struct_size that differs; invalid_state for one that another call is using.
 * Then every generation gets that status, no tokens and no stop reason, except that a struct_size at fault leaves all
 * of them as they were. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_generate_together(struct gptoss_generation* generations, size_t num_generations);

/*
 * Log-probabilities of tokens that the context holds, each after those before it, in the model's own distribution.
 * first: the first of them, at least 1. logprobs_out: (num_tokens) natural logarithms. top_out: (num_tokens, num_top)
 * the likeliest tokens in the place of each, the likeliest first; may be NULL if num_top is 0; up to 256 each. Computes
 * from `first` on again, in batches of a few tokens. Error: invalid_argument for a span that the context does not hold.
 * Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_get_logprobs(gptoss_context_t context, size_t first, size_t num_tokens,
                                                          size_t num_top, float* logprobs_out,
                                                          struct gptoss_logprob* top_out);

/*
 * Makes the call that is running on this context return cancelled soon, or, if none is, the next one that computes:
 * _process, _get_logits, _sample, _generate or _profile. A cancel stays until a call returns cancelled for it, so that
 * one is never too early; all of them that come while that call runs are for it. Any thread may call it. What was
 * computed and committed before stays.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_cancel(gptoss_context_t context);

/*
 * Takes back a cancel that no call has returned for: one that came too late for what it was meant to stop, and would
 * stop the next call instead. Call it once nobody cancels what ran before. Any thread may call it. Since 0.1.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_clear_cancel(gptoss_context_t context);

/*
 * Stores in context_out a new context that begins as this one: its tokens, what is computed of them, the logits, and
 * its sizes. From there each goes its own way. The keys and values computed so far are shared until one of both
 * computes others in their place: a fork takes next to no time, and no device memory before it computes. Since 0.1.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_fork(gptoss_context_t context, gptoss_context_t* context_out);

/*
 * Writes the context with all that it has computed, for gptoss_context_restore. Computes nothing itself. Stores the
 * state in state_out if it has no more than max_size bytes, else nothing, and its size in size_out either way;
 * state_out may be NULL when max_size is 0. The size changes with every call that appends, computes or truncates, and
 * it may change while other contexts of the model compute.
 * Since 0.1.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_save(gptoss_context_t context, void* state_out, size_t max_size,
                                                  size_t* size_out);

/*
 * Makes the context what the saved one was, so that it goes on without computing anything again. The state must come
 * from a model of the same files, weight type and KV type, and from a context with the same adapter and scale, if any;
 * its context's sizes may differ. On a failure the context
 * stays as it was. Both must fit in device memory at once. Errors: invalid_argument for a state that is damaged, cut
 * off or of another model, unsupported_argument for one of another version of the format, context_overflow. Since 0.1.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_restore(gptoss_context_t context, const void* state, size_t size);

/*
 * From now on the context computes with the adapter, whose products are multiplied by scale, a finite number: 1 applies
 * it as it was trained. NULL takes the adapter away. The context holds a reference. It keeps its tokens; what it had
 * computed of them with another adapter or scale is forgotten and computed again when it is needed. Forks begin with
 * the same adapter. Contexts with different adapters, and with none, share the steps of gptoss_generate_together and of
 * threads as others do. A saved state can be restored only in a context with the same adapter and scale. Errors:
 * invalid_argument for an adapter of another model and for a scale that is not finite. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_set_adapter(gptoss_context_t context, gptoss_adapter_t adapter,
                                                         float scale);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_context_retain(gptoss_context_t context);
GPTOSS_ABI enum gptoss_status gptoss_context_release(gptoss_context_t context);

struct gptoss_context_stats {
    size_t struct_size;
    uint64_t cache_bytes;           /* device memory of the keys and values; what forks share counts in each */
    uint64_t activation_bytes;      /* device memory that the model's contexts work in, once for all of them */
    uint64_t cache_bytes_per_token; /* keys and values read to decode the next token */
    uint32_t step_dispatches;       /* of one decoded token, sampling included; 0 before the first */
    uint32_t step_barriers;
    uint64_t prompt_tokens_computed; /* since it was created, without those that were computed before. Since 0.2 */
    uint64_t decode_steps;           /* forward passes of generations since then; see gptoss_prompt_lookup. Since 0.2 */
};

/* What the context holds and what a token costs it; the caller sets stats_out->struct_size. */
GPTOSS_ABI enum gptoss_status gptoss_context_get_stats(gptoss_context_t context,
                                                       struct gptoss_context_stats* stats_out);

/* An element of an array, so that its size is fixed: this struct has no struct_size and never grows. */
struct gptoss_kernel_time {
    char name[32];
    double microseconds; /* of all its dispatches together */
    uint32_t dispatches;
};

/*
 * Computes the context's last num_tokens tokens again in one batch and draws a token with the sampler, NULL for a
 * greedy one, between time stamps, and stores up to max_times kernels' times and the count of all in num_times_out.
 * num_tokens: 1 for a decode step, up to the context's max_batch_tokens. The context stays as it is. Nothing is stored
 * where the device has no time stamps.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_profile(gptoss_context_t context, size_t num_tokens,
                                                     gptoss_sampler_t sampler, struct gptoss_kernel_time* times_out,
                                                     size_t max_times, size_t* num_times_out);

/* ------------------------------------------------------------------------------------------------------------ taps */

/* What a tap tells of a token; the flags of gptoss_tap_options.kinds. All values are float32. Since 0.2. */
enum gptoss_tap_kind {
    gptoss_tap_kind_embedding = 1,  /* (hidden_size) the residual before the first layer */
    gptoss_tap_kind_hidden = 2,     /* (hidden_size) the residual after a layer */
    gptoss_tap_kind_final = 4,      /* (hidden_size) the last residual after the final norm: what lm_head multiplies */
    gptoss_tap_kind_router = 8,     /* (num_experts) a layer's router logits */
    gptoss_tap_kind_experts = 16,   /* (2, num_active_experts) a layer's chosen experts, the likeliest first, as whole
                                       numbers, and their weights, which sum to 1 */
    gptoss_tap_kind_attention = 32, /* (num_heads, keys) the probability of each key, of the last `keys` positions up to
                                       the token's own: those of the window in a sliding layer, all in the others. A
                                       row sums to less than 1: the rest is the sink's */
};

/* What a tap hands over, until the callback returns. Since 0.2. */
struct gptoss_tap {
    size_t struct_size;
    enum gptoss_tap_kind kind;
    uint32_t layer;  /* 0 for the embedding, num_layers for the final state */
    size_t position; /* of the token in its context */
    size_t num_rows; /* 1 where the kind's shape has one dimension */
    size_t num_columns;
    const float* values; /* (num_rows, num_columns) */
};

/* Receives what is tapped; a non-zero result makes the call that computes return cancelled. Since 0.2. */
typedef int (*gptoss_tap_callback_t)(void* user_data, const struct gptoss_tap* tap);

struct gptoss_tap_options {
    size_t struct_size;
    uint32_t kinds;         /* gptoss_tap_kind_…, any of them together */
    const uint32_t* layers; /* (num_layers) whose hidden states, routers and attention are wanted; NULL: all */
    size_t num_layers;
    const uint32_t* positions; /* (num_positions) of the tokens that are wanted; NULL: all */
    size_t num_positions;
    size_t first_position;          /* no token before it is wanted */
    gptoss_tap_callback_t callback; /* may be NULL where values_out is not */
    void* user_data;
    float* values_out;      /* (max_values) all that is tapped, one after the other; it must live as long as the tap */
    size_t max_values;      /* what comes after so many is not stored */
    size_t* num_values_out; /* set to 0 at once, then counts all values; may be NULL where values_out is */
};

/*
 * Taps the context: from now on, calls that compute hand over what is wanted of each token, in the order of positions,
 * of each the embedding, then layer by layer attention, router, experts and hidden state, at last the final state.
 * Callbacks come on the calling thread, before the token that follows is handed over. A token that is wanted counts
 * once: one that is computed already is computed again by the next call that computes, what is truncated or restored
 * and comes again is handed over again. NULL removes the tap. options and its arrays are copied. A fork has no tap.
 *
 * Without a tap nothing of it is recorded. With one, tokens are the same; a step whose token is wanted waits for the
 * host before the next one, and repeats nothing by gptoss_prompt_lookup. Up to 64 MB of a prompt's values are held at
 * once. Errors: invalid_argument for kinds that do not exist, for a layer the model lacks, and without a place for the
 * values; insufficient_memory of the calls that compute. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_context_set_tap(gptoss_context_t context,
                                                     const struct gptoss_tap_options* options);

/* ------------------------------------------------------------------------------------------------------ embeddings */

/* Which states an embedding is made of. Since 0.2. */
enum gptoss_pooling {
    gptoss_pooling_last = 0, /* the last token's, which has seen all others */
    gptoss_pooling_mean = 1, /* the mean over all tokens' */
};

struct gptoss_embedding_options {
    size_t struct_size;
    enum gptoss_pooling pooling;
    uint32_t unnormalized; /* 1: as the model leaves them; 0: scaled to length 1 */
};

/*
 * Computes a vector for each of num_texts texts: states after the final norm, what gptoss_tap_kind_final tells. Texts
 * share batches, and nothing is computed of the logits. gpt-oss was not trained for retrieval: such vectors tell texts
 * apart, and serve as inputs of a classifier, but models made for it find similar texts better.
 *
 * tokens: those of all texts, one text after the other; num_tokens: (num_texts) how many each has, at least 1. They are
 * taken as they are: no token is added. options may be NULL. embeddings_out: (num_texts, hidden_size) float32. Contexts
 * of the model are not touched. Errors: invalid_argument and context_overflow name the text by its number;
 * insufficient_memory. On a failure what was stored is undefined. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_model_embed(gptoss_model_t model, size_t num_texts, const uint32_t* tokens,
                                                 const size_t* num_tokens,
                                                 const struct gptoss_embedding_options* options, float* embeddings_out);

/*
 * Computes the logits that residual states stand for, by the final norm and the unembedding: of those that
 * gptoss_tap_kind_hidden tells after a layer, what the model would say if it ended there. After the last layer they are
 * the model's own, but for rounding.
 *
 * states: (num_states, hidden_size) float32; logits_out: (num_states, vocabulary_size) float32. Any thread, beside
 * calls on any context. Errors: insufficient_memory. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_model_unembed(gptoss_model_t model, size_t num_states, const float* states,
                                                   float* logits_out);

/* ---------------------------------------------------------------------------------------------------------- sampler */

/*
 * Creates a sampler with temperature 1 and everything else off. The settings apply in this order: bias, penalties,
 * temperature, grammar, top-k, top-p, min-p.
 */
GPTOSS_ABI enum gptoss_status gptoss_sampler_create(gptoss_sampler_t* sampler_out);

/* Divides the logits; finite, ≥ 0; 0 takes the most likely token. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_temperature(gptoss_sampler_t sampler, float temperature);

/* Keeps the k most likely tokens (ties: the lower id); 0 keeps all. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_top_k(gptoss_sampler_t sampler, uint32_t top_k);

/* Keeps the smallest set of most likely tokens whose probabilities reach top_p; in (0, 1]. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_top_p(gptoss_sampler_t sampler, float top_p);

/* Drops tokens less likely than min_p times the most likely one; in [0, 1]. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_min_p(gptoss_sampler_t sampler, float min_p);

/* Subtracted from the logit of every token of the answer so far; in [-2, 2]. The answer begins after the last append.
 */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_presence_penalty(gptoss_sampler_t sampler, float presence_penalty);

/* Subtracted once for each time the token stands in the answer so far; in [-2, 2]. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_frequency_penalty(gptoss_sampler_t sampler, float frequency_penalty);

/* Positive logits of every token of the context, prompt included, are divided by it, negative ones multiplied; > 0. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_repetition_penalty(gptoss_sampler_t sampler, float repetition_penalty);

/*
 * Adds biases[i] to the logit of tokens[i], for each of num_biases tokens; finite. -100 all but forbids a token. Takes
 * the place of the biases set before; none with num_biases 0. A generation with a token outside the model's vocabulary
 * fails with invalid_argument. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_logit_bias(gptoss_sampler_t sampler, size_t num_biases,
                                                            const uint32_t* tokens, const float* biases);

/*
 * Only tokens with which the answer follows the grammar are drawn from now on, whatever the other settings; NULL draws
 * from all again. The sampler holds a reference. The answer begins after the last append; what truncate and fork leave
 * of it counts. Where the grammar's text may end, a stop token of the generation may follow; where nothing else can,
 * the generation ends with gptoss_stop_reason_grammar_end. A generation cut short by max_tokens leaves a text that is
 * not complete: a second call goes on with it. Tokens that the grammar leaves no choice for are computed in one batch,
 * and take no step each. Errors of the generation: invalid_argument for a grammar that was not made with the model's
 * own tokenizer, and for an answer so far that does not follow it; invalid_state where no token can go on with it.
 * Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_grammar(gptoss_sampler_t sampler, gptoss_grammar_t grammar);

/* The random draw depends on the seed and the token's position alone; the default seed is 0. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_set_seed(gptoss_sampler_t sampler, uint64_t seed);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_sampler_retain(gptoss_sampler_t sampler);
GPTOSS_ABI enum gptoss_status gptoss_sampler_release(gptoss_sampler_t sampler);

/* --------------------------------------------------------------------------------------------------------- grammars */

/*
 * A grammar says which texts an answer may be: see gptoss_sampler_set_grammar. Grammars are immutable and shared by any
 * number of samplers and threads. All are made for a tokenizer: that of gptoss_model_get_tokenizer for the model that
 * is to follow them. Texts are UTF-8, `length` bytes. Errors: invalid_argument for a text that is wrong,
 * unsupported_argument for one that asks for what cannot be enforced (nothing is dropped silently),
 * insufficient_resources for one that needs too much; each names the place.
 */

/*
 * JSON texts that are valid by a JSON schema (draft 2020-12 and 7), which is an object, true or false. {} is any JSON.
 * docs/grammars.md lists what is enforced. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_grammar_create_from_json_schema(gptoss_tokenizer_t tokenizer, const char* schema,
                                                                     size_t length, gptoss_grammar_t* grammar_out);

/* Texts that match a regular expression from beginning to end. Since 0.2. */
GPTOSS_ABI enum gptoss_status gptoss_grammar_create_from_regex(gptoss_tokenizer_t tokenizer, const char* regex,
                                                               size_t length, gptoss_grammar_t* grammar_out);

/* Texts that match the rule "root" of a grammar in llama.cpp's GBNF. Since 0.2. */
GPTOSS_ABI enum gptoss_status gptoss_grammar_create_from_gbnf(gptoss_tokenizer_t tokenizer, const char* gbnf,
                                                              size_t length, gptoss_grammar_t* grammar_out);

/*
 * Whole turns of the assistant after gptoss_harmony_render, up to their <|return|> or <|call|>: channels, recipients,
 * arguments and all, so that no turn is malformed.
 *
 * options_json: an object, all of whose members may be missing. "tools": an array of {"name", "parameters"}, or of
 * {"type": "function", "function": {"name", "parameters"}}; parameters are a JSON schema of the arguments, any object
 * where there is none. "tool_choice": "auto" (a call or an answer), "none", "required" (a call), or {"name": ...} (a
 * call of that one). "response_format": a JSON schema of the final text, or "response_grammar": a GBNF of it; any text
 * without them. "reasoning": false for a turn without analysis. Error: unsupported_argument for a tokenizer without
 * Harmony's special tokens. Since 0.2.
 */
GPTOSS_ABI enum gptoss_status gptoss_grammar_create_from_harmony(gptoss_tokenizer_t tokenizer, const char* options_json,
                                                                 size_t length, gptoss_grammar_t* grammar_out);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_grammar_retain(gptoss_grammar_t grammar);
GPTOSS_ABI enum gptoss_status gptoss_grammar_release(gptoss_grammar_t grammar);

/* ---------------------------------------------------------------------------------------------------------- harmony */

/*
 * Renders a conversation, ready for the assistant's turn.
 *
 * conversation_json: {"messages": [...]} in the shape of OpenAI's harmony library, UTF-8, `length` bytes. A message has
 * "role", "content" (a string, or an array of {"type": "text" | "system_content" | "developer_content", ...}) and,
 * where they apply, "name", "recipient", "channel" and "content_type". Analysis before the first final message is
 * dropped once the assistant's last message is a final one, as there, unless "auto_drop_analysis" beside "messages" is
 * false. In "tools", {"browser": {}} and {"python": {}} stand for the tools that gpt-oss was trained with. Stores up to
 * max_tokens tokens and the count of all in num_tokens_out. Errors: invalid_argument names the message and the field;
 * unsupported_argument a special token that the tokenizer lacks.
 */
GPTOSS_ABI enum gptoss_status gptoss_harmony_render(gptoss_tokenizer_t tokenizer, const char* conversation_json,
                                                    size_t length, uint32_t* tokens_out, size_t max_tokens,
                                                    size_t* num_tokens_out);

/* Creates a parser of what the assistant generates after gptoss_harmony_render's tokens. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_create(gptoss_tokenizer_t tokenizer,
                                                           gptoss_harmony_parser_t* parser_out);

/* Takes the next token, any number. A malformed turn is no error: see gptoss_harmony_parser_is_malformed. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_process(gptoss_harmony_parser_t parser, uint32_t token);

/* Forgets all tokens and messages. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_reset(gptoss_harmony_parser_t parser);

/*
 * Properties of the message being generated, after the last token: UTF-8, NUL-terminated, "" where there is none,
 * valid until the parser's next _process or _reset. size_out may be NULL. They are known once the header is complete;
 * the role of the first message is the assistant's. The recipient may stand after the role or after the channel. The
 * content type is such as "code" or "<|constrain|>json". The delta is the text that the last token added, whole
 * characters only: the start of one waits for its rest, and what is not UTF-8 becomes U+FFFD.
 */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_role(gptoss_harmony_parser_t parser, const char** text_out,
                                                             size_t* size_out);
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_channel(gptoss_harmony_parser_t parser, const char** text_out,
                                                                size_t* size_out);
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_recipient(gptoss_harmony_parser_t parser, const char** text_out,
                                                                  size_t* size_out);
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_content_type(gptoss_harmony_parser_t parser,
                                                                     const char** text_out, size_t* size_out);
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_delta(gptoss_harmony_parser_t parser, const char** text_out,
                                                              size_t* size_out);

/* Where in a message the parser is, after the last token. */
enum gptoss_harmony_state {
    gptoss_harmony_state_expect_start = 0, /* between messages: <|start|> is next */
    gptoss_harmony_state_header = 1,       /* in a header, as before the first token */
    gptoss_harmony_state_content = 2,
};

/* Stores where in a message the parser is. Since 0.2. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_state(gptoss_harmony_parser_t parser,
                                                              enum gptoss_harmony_state* state_out);

/* Stores 1 if any message so far broke the format: its tokens are then kept in the JSON as "raw_tokens", else 0. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_is_malformed(gptoss_harmony_parser_t parser, int* malformed_out);

/*
 * The messages so far as a JSON array in the shape that gptoss_harmony_render takes; an unfinished one is last, as if
 * it ended here. Stores up to max_size bytes, unterminated, and the size of all in size_out.
 */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_get_messages(gptoss_harmony_parser_t parser, char* json_out,
                                                                 size_t max_size, size_t* size_out);

/* Adds a reference; drops one. */
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_retain(gptoss_harmony_parser_t parser);
GPTOSS_ABI enum gptoss_status gptoss_harmony_parser_release(gptoss_harmony_parser_t parser);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* GPTOSS_H */

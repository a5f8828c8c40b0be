//! Against the small random checkpoint tests/golden/tiny, whose vocabulary has 512 tokens.
use gptoss::*;
use std::ops::ControlFlow;

const PROMPT: [u32; 6] = [5, 400, 17, 81, 3, 256];

fn tiny() -> String {
    std::env::var("GPTOSS_TINY").unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/tiny").into())
}

fn model() -> Model {
    Model::open(tiny()).unwrap()
}

fn context(model: &Model) -> Context {
    let mut context = Context::with_limits(model, 256, 0).unwrap();
    context.append(&PROMPT).unwrap();
    context
}

fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop_tokens: Some(vec![]), ..Default::default() }
}

fn assert_send<T: Send>() {}
fn assert_sync<T: Sync>() {}

#[test]
fn handles_go_where_they_may() {
    assert_send::<Context>();
    assert_send::<HarmonyParser>();
    assert_send::<Model>();
    assert_sync::<Model>();
    assert_sync::<Tokenizer>();
    assert_sync::<Canceller>();
}

#[test]
fn iterator_callback_and_sample_agree() {
    let model = model();
    let mut c = context(&model);
    let mut sampled = [0; 40];
    assert_eq!(c.sample(&mut sampled, 0.0, 0).unwrap(), 40);
    c.truncate(PROMPT.len()).unwrap();
    let mut generation = c.generate(&options(40)).unwrap();
    let iterated: Vec<u32> = generation.by_ref().map(|token| token.unwrap()).collect();
    assert_eq!(generation.stop_reason(), Some(StopReason::MaxTokens));
    assert_eq!(generation.next().map(|token| token.is_ok()), None);
    drop(generation);
    assert_eq!(iterated, sampled);
    c.truncate(PROMPT.len()).unwrap();
    let mut called = vec![];
    let generated = c
        .generate_with(&options(0), |token| {
            called.push(token);
            if called.len() < 40 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .unwrap();
    assert_eq!((generated.num_tokens, generated.stop_reason), (40, StopReason::Callback));
    assert_eq!(called, sampled);
}

#[test]
fn forks_and_saved_states_go_on_alike() {
    let model = model();
    let mut c = context(&model);
    c.process().unwrap();
    let mut fork = c.fork().unwrap();
    let mut restored = Context::with_limits(&model, 100, 0).unwrap();
    restored.restore(&c.save().unwrap()).unwrap();
    let mut tokens = [[0; 10]; 3];
    for (context, tokens) in [&mut c, &mut fork, &mut restored].into_iter().zip(&mut tokens) {
        assert_eq!(context.sample(tokens, 1.0, 7).unwrap(), 10);
    }
    assert_eq!(tokens[1], tokens[0]);
    assert_eq!(tokens[2], tokens[0]);
    assert_eq!(restored.restore(&[1, 2, 3]).unwrap_err().status(), Status::InvalidArgument);
    assert_eq!(restored.num_tokens().unwrap(), PROMPT.len() + 10);
}

#[test]
fn a_cancel_is_never_too_early_and_can_be_taken_back() {
    let model = model();
    let mut c = context(&model);
    let canceller = c.canceller();
    canceller.cancel();
    assert_eq!(c.process().unwrap_err().status(), Status::Cancelled);
    canceller.cancel();
    canceller.clear();
    c.process().unwrap();
}

#[test]
fn dropping_an_iterator_keeps_what_was_taken() {
    let model = model();
    let mut c = context(&model);
    let taken: Vec<u32> = c.generate(&options(0)).unwrap().take(3).map(|token| token.unwrap()).collect();
    assert_eq!(c.tokens().unwrap(), [&PROMPT[..], &taken].concat());
    // Natural ends too: everything was computed, and two tokens taken.
    let mut generation = c.generate(&options(10)).unwrap();
    generation.next().unwrap().unwrap();
    generation.next().unwrap().unwrap();
    drop(generation);
    assert_eq!(c.num_tokens().unwrap(), PROMPT.len() + 5);
}

/// Runs a task on this thread.
fn block_on<T>(task: impl std::future::Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut task = Box::pin(task);
    loop {
        match task.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_stream_gives_the_iterators_tokens() {
    let model = model();
    let mut c = context(&model);
    let iterated: Vec<u32> = c.generate(&options(40)).unwrap().map(|token| token.unwrap()).collect();
    c.truncate(PROMPT.len()).unwrap();
    block_on(async {
        let mut stream = c.generate(&options(40)).unwrap().into_stream();
        let mut streamed = vec![];
        while let Some(token) = stream.next().await {
            streamed.push(token.unwrap());
        }
        assert_eq!(streamed, iterated);
        assert_eq!(stream.stop_reason(), Some(StopReason::MaxTokens));
        assert!(stream.next().await.is_none());
    });
    // Dropped amid a generation; and a task that is dropped while it waits.
    c.truncate(PROMPT.len()).unwrap();
    block_on(async {
        let mut stream = c.generate(&options(0)).unwrap().into_stream();
        stream.next().await.unwrap().unwrap();
        stream.next().await.unwrap().unwrap();
    });
    assert_eq!(c.tokens().unwrap(), [&PROMPT[..], &iterated[..2]].concat());
    let empty = &mut Context::new(&model).unwrap();
    let failed = block_on(async { empty.generate(&options(1)).unwrap().into_stream().next().await });
    assert_eq!(failed.unwrap().unwrap_err().status(), Status::InvalidState);
}

#[test]
fn a_parser_says_where_it_is() {
    let tokenizer = Tokenizer::o200k_harmony().unwrap();
    let mut parser = HarmonyParser::new(&tokenizer).unwrap();
    assert_eq!(parser.state().unwrap(), HarmonyState::Header);
    for token in tokenizer.encode("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{", true).unwrap() {
        parser.process(token).unwrap();
    }
    assert_eq!(parser.state().unwrap(), HarmonyState::Content);
    assert_eq!((parser.role().unwrap(), parser.channel().unwrap()), ("assistant", "commentary"));
    assert_eq!((parser.recipient().unwrap(), parser.delta().unwrap()), ("functions.f", "{"));
    assert_eq!(parser.content_type().unwrap(), "<|constrain|>json");
    parser.process(tokenizer.special_token("<|call|>").unwrap()).unwrap();
    assert_eq!(parser.state().unwrap(), HarmonyState::ExpectStart);
}

#[test]
fn a_forgotten_iterator_is_stopped_before_the_next_use() {
    let model = model();
    let mut c = context(&model);
    std::mem::forget(c.generate(&options(0)).unwrap());
    assert_eq!(c.num_tokens().unwrap(), PROMPT.len());
    std::mem::forget(c.generate(&options(0)).unwrap());
    drop(c);
}

#[test]
fn a_canceller_stops_from_another_thread() {
    let model = model();
    let mut c = Context::new(&model).unwrap();
    c.append(&PROMPT).unwrap();
    let canceller = c.canceller();
    let mut tokens = 0;
    let result = c.generate_with(&options(0), |_| {
        tokens += 1;
        if tokens == 3 {
            let canceller = canceller.clone();
            std::thread::spawn(move || canceller.cancel());
        }
        ControlFlow::Continue(())
    });
    assert_eq!(result.unwrap_err().status(), Status::Cancelled);
    assert_eq!(c.num_tokens().unwrap(), PROMPT.len() + tokens);
}

#[test]
fn contexts_of_one_model_run_on_several_threads() {
    let model = model();
    let run = |model: Model| {
        let mut tokens = [0; 16];
        context(&model).sample(&mut tokens, 0.0, 0).unwrap();
        tokens
    };
    let expected = run(model.clone());
    let threads: Vec<_> = (0..3).map(|_| model.clone()).map(|model| std::thread::spawn(move || run(model))).collect();
    drop(model);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn errors_say_what_failed() {
    let error = Model::open("/no/such/model").err().unwrap();
    assert_eq!(error.status(), Status::IoError);
    assert!(error.to_string().contains("/no/such/model"), "{error}");
    let model = model();
    let mut c = context(&model);
    assert_eq!(c.append(&[200_000]).unwrap_err().status(), Status::InvalidArgument); // of another model
    assert_eq!(c.append(&[1; 300]).unwrap_err().status(), Status::ContextOverflow);
    let bad = GenerateOptions { sampler: Some(Sampler { top_p: 2.0, ..Default::default() }), ..options(1) };
    assert_eq!(c.generate(&bad).err().unwrap().status(), Status::InvalidArgument);
    let empty = Context::new(&model).unwrap().generate(&options(1)).unwrap().next().unwrap();
    assert_eq!(empty.unwrap_err().status(), Status::InvalidState);
}

#[test]
fn a_panic_in_a_callback_comes_through() {
    let model = model();
    let mut c = context(&model);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = c.generate_with(&options(0), |_| panic!("expected"));
    }));
    assert!(caught.is_err());
    assert_eq!(c.num_tokens().unwrap(), PROMPT.len() + 1);
}

#[test]
fn loading_reports_progress_and_can_be_stopped() {
    let mut calls = 0;
    let result = ModelOptions::new()
        .progress(|_, _| {
            calls += 1;
            ControlFlow::Break(())
        })
        .open(tiny());
    assert_eq!(result.err().unwrap().status(), Status::Cancelled);
    assert_eq!(calls, 1);
}

#[test]
fn text() {
    let tokenizer = Tokenizer::o200k_harmony().unwrap();
    let tokens = tokenizer.encode("Grüße<|end|>", true).unwrap();
    assert_eq!(tokenizer.decode_tokens(&tokens).unwrap(), "Grüße<|end|>".as_bytes());
    assert_eq!(*tokens.last().unwrap(), tokenizer.special_token("<|end|>").unwrap());
    let prompt = tokenizer.render(r#"{"messages": [{"role": "user", "content": "hi"}]}"#).unwrap();
    assert_eq!(tokenizer.special_token_name(prompt[0]).unwrap(), "<|start|>");
    let mut parser = HarmonyParser::new(&tokenizer).unwrap();
    for token in tokenizer.encode("<|channel|>final<|message|>Hello<|return|>", true).unwrap() {
        parser.process(token).unwrap();
    }
    assert!(parser.messages().unwrap().contains("Hello"));
    assert!(!parser.is_malformed().unwrap());
}

#[test]
fn costs_are_described() {
    let mut context = context(&model());
    context.sample(&mut [0; 3], 0.0, 0).unwrap();
    let stats = context.stats().unwrap();
    assert!(stats.cache_bytes > 0 && stats.step_dispatches > 0);
    for sampler in [None, Some(Sampler { top_p: 0.9, ..Default::default() })] {
        let times = context.profile(1, sampler.as_ref()).unwrap();
        assert!(times.iter().all(|time| !time.name.is_empty() && time.dispatches > 0));
    }
    assert!(context.profile(100, None).is_err());
    assert!(context.profile(1, Some(&Sampler { top_p: 2.0, ..Default::default() })).is_err());
    assert!(measure_bandwidth(1000).is_err());
}

#[test]
fn devices_are_described() {
    assert!(devices().unwrap().iter().all(|device| !device.name.is_empty()));
    assert!(library_version() >= (0, 1, 0));
}

#[test]
fn an_answer_follows_a_grammar() {
    let model = model();
    let tokenizer = model.tokenizer().unwrap();
    let grammar = Grammar::regex(&tokenizer, "[0-9]{4}abcabc").unwrap();
    assert_eq!(grammar, grammar.clone());
    let mut context = context(&model);
    let sampler = Sampler { temperature: 1.5, grammar: Some(grammar), ..Sampler::default() };
    let options = GenerateOptions { sampler: Some(sampler), ..Default::default() };
    let mut generation = context.generate(&options).unwrap();
    let mut text = String::new();
    while let Some(token) = generation.next() {
        let token = token.unwrap();
        let output = generation.output().unwrap();
        assert_eq!(output.token, token);
        text += &output.text;
    }
    assert_eq!(generation.stop_reason(), Some(StopReason::GrammarEnd));
    let usage = generation.usage().unwrap();
    assert_eq!((usage.prompt_tokens, usage.forced_tokens > 0), (PROMPT.len(), true));
    drop(generation);
    assert_eq!(text.len(), 10);
    assert!(text.ends_with("abcabc") && text[..4].bytes().all(|c| c.is_ascii_digit()), "{text}");
    for (kind, error) in [
        (Grammar::json_schema as fn(&Tokenizer, &str) -> Result<Grammar>, r#"{"type": "strin"}"#),
        (Grammar::regex, "("),
        (Grammar::gbnf, "root ::= x"),
        (Grammar::harmony, "[]"),
    ] {
        assert_eq!(kind(&tokenizer, error).unwrap_err().status(), Status::InvalidArgument);
    }
}

#[test]
fn outputs_have_logprobs_and_stop_at_strings() {
    let model = model();
    let grammar = Grammar::regex(&model.tokenizer().unwrap(), "abcabd[0-9]*").unwrap();
    let mut context = context(&model);
    let sampler = Sampler { logit_bias: vec![(7, 3.5)], grammar: Some(grammar), ..Sampler::default() };
    let options = GenerateOptions {
        sampler: Some(sampler),
        stop_strings: vec!["cab".to_string()],
        logprobs: Logprobs::Drawn,
        top_logprobs: 2,
        ..Default::default()
    };
    let mut text = String::new();
    let generated = context
        .generate_outputs(&options, |output| {
            assert!(output.logprob <= 0.0 && !output.top_logprobs.is_empty() && output.top_logprobs.len() <= 2);
            text += &output.text;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((generated.stop_reason, text.as_str()), (StopReason::StopString, "ab"));
    let (logprobs, top) = context.logprobs(1, 5, 3).unwrap();
    assert!(logprobs.iter().all(|&value| value < 0.0));
    assert!(top.iter().all(|row| row.len() == 3 && row[0].1 >= row[1].1));
}

#[test]
fn an_adapter_changes_what_a_context_computes() {
    let path = tiny() + "/../adapters/experts";
    let model = ModelOptions::new().adapter(&path).open(tiny()).unwrap();
    let adapter = Adapter::open(&model, &path).unwrap();
    let info = adapter.info().unwrap();
    assert!(info.rank == 4 && info.device_bytes > 0);
    let estimate = ModelOptions::new().adapter(&path).estimate_memory(tiny(), 0, 0).unwrap();
    assert_eq!(estimate.adapter_bytes, info.device_bytes);
    let mut context = context(&model);
    let logits = |context: &mut Context| {
        let mut logits = vec![0f32; 512];
        context.logits(&mut logits).unwrap();
        logits
    };
    let without = logits(&mut context);
    context.set_adapter(Some(&adapter), 0.5).unwrap();
    drop(adapter);
    assert_ne!(logits(&mut context), without);
    assert_eq!(context.tokens().unwrap(), PROMPT);
    context.set_adapter(None, 1.0).unwrap();
    assert_eq!(logits(&mut context), without);
    assert!(Adapter::open(&model, tiny()).err().unwrap().to_string().contains("adapter_config.json"));
}

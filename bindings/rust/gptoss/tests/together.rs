//! generate_together, against the small random checkpoint tests/golden/tiny, whose vocabulary has 512 tokens.
use gptoss::*;
use std::ops::ControlFlow;

const PROMPTS: [&[u32]; 3] = [&[5, 400, 17, 81, 3, 256], &[9], &[30; 70]];

fn model() -> Model {
    let tiny = std::env::var("GPTOSS_TINY")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/tiny").into());
    Model::open(tiny).unwrap()
}

fn contexts(model: &Model) -> [Context; 3] {
    PROMPTS.map(|prompt| {
        let mut context = Context::with_limits(model, 200, 0).unwrap();
        context.append(prompt).unwrap();
        context
    })
}

fn options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop_tokens: Some(vec![]), ..Default::default() }
}

#[test]
fn each_gets_what_it_gets_alone() {
    let model = model();
    let sampler = Some(Sampler { seed: 7, ..Default::default() });
    let all = [options(5), GenerateOptions { sampler, ..options(6) }, options(0)];
    let mut alone = contexts(&model);
    for (context, options) in alone.iter_mut().zip(&all) {
        let mut left = 7; // the last one's end
        let stop = |_| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        context.generate_with(options, stop).unwrap();
    }
    let mut together = contexts(&model);
    let mut heard = vec![];
    let mut requests: Vec<_> =
        together.iter_mut().zip(&all).map(|(context, options)| GenerateRequest::new(context, options)).collect();
    let last = requests.pop().unwrap().on_token(|token| {
        heard.push(token);
        if heard.len() == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    requests.push(last);
    let outcomes: Vec<_> = generate_together(requests).unwrap().into_iter().map(|outcome| outcome.unwrap()).collect();
    let expected = [(5, StopReason::MaxTokens), (6, StopReason::MaxTokens), (7, StopReason::Callback)];
    for (i, (num_tokens, stop_reason)) in expected.into_iter().enumerate() {
        let outcome = outcomes[i];
        assert_eq!((outcome.num_tokens, outcome.stop_reason), (num_tokens, stop_reason));
        assert_eq!(outcome.usage.generated_tokens, num_tokens);
        assert_eq!(together[i].tokens().unwrap(), alone[i].tokens().unwrap());
    }
    assert_eq!(together[2].tokens().unwrap()[PROMPTS[2].len()..], heard);
    assert!(generate_together([]).unwrap().is_empty());
}

#[test]
fn one_that_fails_fails_alone() {
    let model = model();
    let [mut fine, mut empty, mut cancelled] = contexts(&model);
    empty.reset().unwrap();
    cancelled.canceller().cancel();
    let outcomes =
        generate_together([&mut fine, &mut empty, &mut cancelled].map(|c| GenerateRequest::new(c, &options(3)))).unwrap();
    assert_eq!(outcomes[0].as_ref().unwrap().num_tokens, 3);
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.status(), Status::InvalidState);
    assert!(error.to_string().contains("append tokens first"), "{error}");
    let error = outcomes[2].as_ref().unwrap_err();
    assert_eq!((error.status(), error.to_string()), (Status::Cancelled, "cancelled".into()));
    // What is wrong with one before anything runs keeps all of them from running.
    let bad = GenerateOptions { sampler: Some(Sampler { top_p: 2.0, ..Default::default() }), ..options(1) };
    let refused = generate_together([GenerateRequest::new(&mut fine, &options(1)), GenerateRequest::new(&mut empty, &bad)]);
    assert_eq!(refused.unwrap_err().status(), Status::InvalidArgument);
    let mut foreign = Context::new(&self::model()).unwrap();
    foreign.append(&[1]).unwrap();
    let refused = generate_together([&mut fine, &mut foreign].map(|c| GenerateRequest::new(c, &options(1))));
    assert!(refused.unwrap_err().to_string().contains("one model"));
    assert_eq!(fine.num_tokens().unwrap(), PROMPTS[0].len() + 3);
}

#[test]
fn a_panic_in_a_callback_ends_all_and_comes_through() {
    let model = model();
    let [mut first, mut second, _] = contexts(&model);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let panics = GenerateRequest::new(&mut first, &options(0)).on_token(|_| panic!("expected"));
        generate_together([panics, GenerateRequest::new(&mut second, &options(0))]).unwrap();
    }));
    assert!(caught.is_err());
    assert_eq!(first.num_tokens().unwrap(), PROMPTS[0].len() + 1);
    assert!(second.num_tokens().unwrap() < 200); // it was cancelled
    second.process().unwrap(); // and nothing of that is left
}

#[test]
fn a_forgotten_iterator_is_stopped_first() {
    let model = model();
    let [mut first, mut second, _] = contexts(&model);
    std::mem::forget(first.generate(&options(0)).unwrap());
    let outcomes = generate_together([&mut first, &mut second].map(|c| GenerateRequest::new(c, &options(2)))).unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().num_tokens == 2));
    assert_eq!(first.num_tokens().unwrap(), PROMPTS[0].len() + 2);
}

//! Taps, against the small random checkpoint tests/golden/tiny: 4 layers, 8 experts of which a token uses 4.
use gptoss::*;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex};

const PROMPT: [u32; 6] = [5, 400, 17, 81, 3, 256];

fn context() -> Context {
    let tiny = std::env::var("GPTOSS_TINY")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/tiny").into());
    let mut context = Context::with_limits(&Model::open(tiny).unwrap(), 256, 0).unwrap();
    context.append(&PROMPT).unwrap();
    context
}

#[test]
fn what_is_wanted_is_handed_over() {
    let mut context = context();
    let (seen, experts) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(vec![])));
    let (to, chosen) = (seen.clone(), experts.clone());
    let options = TapOptions {
        kinds: vec![TapKind::Hidden, TapKind::Experts, TapKind::Attention],
        layers: Some(vec![1, 3]),
        positions: Some(vec![0, 5, 7]),
        ..Default::default()
    };
    let on_tap = move |tapped: Tapped| {
        assert_eq!(tapped.values.len(), tapped.rows * tapped.columns);
        to.lock().unwrap().push((tapped.kind, tapped.layer, tapped.position, tapped.rows, tapped.columns));
        if tapped.kind == TapKind::Experts {
            chosen.lock().unwrap().push(tapped.values.to_vec());
        }
    };
    context.set_tap(&options, on_tap).unwrap();
    let mut tokens = [0; 4];
    context.sample(&mut tokens, 0.0, 0).unwrap();
    let mut expected = vec![];
    for position in [0, 5, 7] {
        for layer in [1, 3] {
            expected.push((TapKind::Attention, layer, position, 8, position + 1));
            expected.push((TapKind::Experts, layer, position, 2, 4));
            expected.push((TapKind::Hidden, layer, position, 1, 96));
        }
    }
    assert_eq!(*seen.lock().unwrap(), expected);
    for values in experts.lock().unwrap().iter() {
        assert!(values[..4].iter().all(|&expert| expert < 8.0));
        assert!((values[4..].iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    context.remove_tap().unwrap();
    context.truncate(PROMPT.len()).unwrap();
    let mut again = [0; 4];
    context.sample(&mut again, 0.0, 0).unwrap();
    assert_eq!(again, tokens);
    assert_eq!(seen.lock().unwrap().len(), expected.len());
    let refused = context.set_tap(&TapOptions { layers: Some(vec![4]), ..options }, |_| ()).unwrap_err();
    assert!(refused.to_string().contains("layers[0] is 4"), "{refused}");
}

#[test]
fn embeddings_are_the_final_states() {
    let tiny = std::env::var("GPTOSS_TINY")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/tiny").into());
    let model = Model::open(tiny).unwrap();
    let mut context = Context::new(&model).unwrap();
    context.append(&PROMPT).unwrap();
    let states = Arc::new(Mutex::new(vec![]));
    let to = states.clone();
    let options = TapOptions { kinds: vec![TapKind::Final], ..Default::default() };
    context.set_tap(&options, move |tapped| to.lock().unwrap().push(tapped.values.to_vec())).unwrap();
    context.process().unwrap();
    let states = states.lock().unwrap();
    let raw = model.embed(&[&[9], &PROMPT], Pooling::Last, false).unwrap();
    assert_eq!((raw.len(), raw[1].len()), (2, 96));
    assert!(raw[1].iter().zip(&states[5]).all(|(a, b)| (a - b).abs() < 1e-4));
    let mean = model.embed(&[&PROMPT], Pooling::Mean, false).unwrap();
    for (i, value) in mean[0].iter().enumerate() {
        assert!((value - states.iter().map(|state| state[i]).sum::<f32>() / 6.0).abs() < 1e-4);
    }
    for vector in model.embed(&[&PROMPT, &[9]], Pooling::Mean, true).unwrap() {
        assert!((vector.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert!(model.embed(&[&[9], &[]], Pooling::Last, true).unwrap_err().to_string().contains("text 1"));
}

#[test]
fn the_last_state_has_the_logits() {
    let tiny = std::env::var("GPTOSS_TINY")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/tiny").into());
    let model = Model::open(tiny).unwrap();
    let mut context = Context::new(&model).unwrap();
    context.append(&PROMPT).unwrap();
    let state = Arc::new(Mutex::new(vec![]));
    let to = state.clone();
    let options = TapOptions { kinds: vec![TapKind::Hidden], layers: Some(vec![3]), ..Default::default() };
    context.set_tap(&options, move |tapped| *to.lock().unwrap() = tapped.values.to_vec()).unwrap();
    let mut expected = vec![0.0; 512];
    context.logits(&mut expected).unwrap();
    let logits = model.unembed(&[state.lock().unwrap().as_slice()]).unwrap();
    assert_eq!((logits.len(), logits[0].len()), (1, 512));
    assert!(logits[0].iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn a_panic_goes_on_in_the_call() {
    let mut context = context();
    let options = TapOptions { kinds: vec![TapKind::Final], ..Default::default() };
    context.set_tap(&options, |tapped| assert!(tapped.position < 3, "that is enough")).unwrap();
    let message = |panic: Box<dyn std::any::Any + Send>| *panic.downcast::<&str>().unwrap();
    assert_eq!(message(catch_unwind(AssertUnwindSafe(|| context.process())).unwrap_err()), "that is enough");
    let iterate = AssertUnwindSafe(|| context.generate(&GenerateOptions::default()).unwrap().count());
    assert_eq!(message(catch_unwind(iterate).unwrap_err()), "that is enough");
    context.remove_tap().unwrap();
    context.process().unwrap();
}

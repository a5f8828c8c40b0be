//! See ../../README.md.
use gptoss::{Context, GenerateOptions, Model, Result, Sampler};
use std::{env, fs};

fn generate(path: &str, prompts: &str, count: usize, is_text: bool) -> Result<()> {
    let mut context = Context::new(&Model::open(path)?)?;
    for (i, line) in fs::read_to_string(prompts).unwrap().lines().enumerate() {
        context.reset()?;
        if is_text {
            context.append_text(line)?;
        } else {
            let tokens: Vec<u32> = line.split_whitespace().map(|token| token.parse().unwrap()).collect();
            context.append(&tokens)?;
        }
        let sampler = Sampler { temperature: 0.8, top_p: 0.95, seed: i as u64 + 1, ..Default::default() };
        let options = GenerateOptions { sampler: Some(sampler), max_tokens: count, ..Default::default() };
        for token in context.generate(&options)? {
            print!("{} ", token?);
        }
        println!();
    }
    Ok(())
}

extern "C" {
    fn malloc_trim(keep: usize) -> i32;
}

fn resident_kb() -> i64 {
    unsafe { malloc_trim(0) };
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4
}

fn cycles(path: &str, count: usize) -> Result<()> {
    let mut least = [i64::MAX; 5];
    for i in 0..count {
        let mut context = Context::with_limits(&Model::open(path)?, 512, 0)?;
        context.append(&[1])?;
        drop(context);
        let fifth = &mut least[i * 5 / count];
        *fifth = resident_kb().min(*fifth);
    }
    println!("{}", least[4] - least[1]);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    match arguments[1].as_str() {
        "cycles" => cycles(&arguments[2], arguments[3].parse().unwrap()),
        kind => generate(&arguments[2], &arguments[3], arguments[4].parse().unwrap(), kind == "text"),
    }
}

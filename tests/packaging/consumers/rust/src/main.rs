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

/// struct mallinfo2 of <malloc.h>
#[repr(C)]
struct Heap {
    arena_to_hblks: [usize; 4],
    hblkhd: usize,
    usmblks_and_fsmblks: [usize; 2],
    uordblks: usize,
    fordblks_and_keepcost: [usize; 2],
}

extern "C" {
    fn malloc_trim(keep: usize) -> i32;
    fn mallinfo2() -> Heap;
}

fn allocated_kb() -> i64 {
    let heap = unsafe { mallinfo2() };
    ((heap.uordblks + heap.hblkhd) / 1024) as i64
}

fn resident_kb() -> i64 {
    unsafe { malloc_trim(0) };
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4
}

fn cycles(path: &str, count: usize) -> Result<()> {
    let (mut allocated, mut resident) = ([i64::MAX; 5], [i64::MAX; 5]);
    for i in 0..count {
        let mut context = Context::with_limits(&Model::open(path)?, 512, 0)?;
        context.append(&[1])?;
        drop(context);
        let fifth = i * 5 / count;
        allocated[fifth] = allocated_kb().min(allocated[fifth]);
        resident[fifth] = resident_kb().min(resident[fifth]);
    }
    println!("{} {}", allocated[4] - allocated[1], resident[4] - resident[1]);
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    match arguments[1].as_str() {
        "cycles" => cycles(&arguments[2], arguments[3].parse().unwrap()),
        kind => generate(&arguments[2], &arguments[3], arguments[4].parse().unwrap(), kind == "text"),
    }
}

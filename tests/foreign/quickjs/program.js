// A program on QuickJS, with the interfaces of WASI as modules: what it was given, a file, and what a JavaScript engine is for.

import environment from 'wasi:cli/environment@0.2.12';
import exit from 'wasi:cli/exit@0.2.12';
import stdout from 'wasi:cli/stdout@0.2.12';

function say(text) {
  stdout.getStdout().blockingWriteAndFlush(Array.from(`${text}\n`, (letter) => letter.charCodeAt(0)));
}

export const run = {
  run() {
    const [, ...given] = environment.getArguments();
    const { WORD } = Object.fromEntries(environment.getEnvironment());
    const numbers = given.map(BigInt);
    say(JSON.stringify({ sorted: [...given].sort((a, b) => a - b), product: String(numbers.reduce((a, b) => a * b)) }));
    say(WORD.replace(/(?<first>\w)(?<rest>\w*)/gu, '$<rest>$<first>ay'));
    exit.exit({ tag: 'err' });
  },
};

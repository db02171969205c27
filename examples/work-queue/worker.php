#!/usr/bin/env php
<?php
// A worker in PHP, with the curl extension.
//
//   ./worker.php QUEUE
//
// It takes one task at a time, a JSON object, and calls work(). SIGTERM and Ctrl-C stop it after its current task if PHP has
// the pcntl extension, as on the command line of most systems.

declare(strict_types=1);

define('GATEWAY', getenv('GATEWAY') ?: 'http://127.0.0.1:8080');
define('LEASE', (int) (getenv('LEASE') ?: 30)); // seconds

/** A task that will never succeed: it goes to the queue's dead-letter exchange. */
class Unworkable extends Exception {}

/** Your work. If it returns, the task is done. If it throws, the task goes back. Long work calls $renew() regularly. */
function work(array $task, callable $renew): void
{
    for ($left = $task['seconds'] ?? 0; $left > 0; $left--) {
        usleep((int) (min($left, 1) * 1_000_000));
        $renew();
    }
    echo 'done ', json_encode($task), "\n";
}

/** One request; repeated if the gateway says that this helps. */
function call(string $method, string $path, ?array $body = null): ?array
{
    for ($attempt = 0; ; $attempt++) {
        $curl = curl_init(GATEWAY . $path);
        $wait = 1;
        curl_setopt_array($curl, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => 60,
            CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$wait): int {
                if (preg_match('/^retry-after: (\d+)/i', $line, $match)) $wait = (int) $match[1];
                return strlen($line);
            },
        ]);
        if ($body !== null) {
            curl_setopt($curl, CURLOPT_POSTFIELDS, json_encode($body));
            curl_setopt($curl, CURLOPT_HTTPHEADER, ['content-type: application/json']);
        }
        $answer = curl_exec($curl);
        $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($answer === false) throw new RuntimeException(curl_error($curl));
        if ($status < 300) return json_decode($answer, true);
        if (!in_array($status, [429, 503]) || $attempt === 5) throw new RuntimeException($answer);
        sleep($wait);
    }
}

function handle(array $message): void
{
    $id = $message['lease']['id'];
    $renewed = time();
    $renew = function () use ($id, &$renewed): void {
        if (time() - $renewed < LEASE / 3) return;
        call('POST', "/leases/$id/extend");
        $renewed = time();
    };
    try {
        $task = $message['payload'];
        // JSON that was published without its content type, as curl -d does, is a string.
        if (is_string($task)) $task = json_decode($task, true);
        if (!is_array($task)) throw new Unworkable('not a JSON object');
        work($task, $renew);
    } catch (Throwable $error) {
        $requeue = !$error instanceof Unworkable;
        fwrite(STDERR, ($requeue ? 'failed, for another try: ' : 'rejected: ') . $error->getMessage() . "\n");
        if ($requeue) sleep(1); // otherwise the task is back at once, and keeps all workers busy
        call('POST', "/leases/$id/nack", ['requeue' => $requeue]);
        return;
    }
    // 410: the lease ran out, and another worker has the task. A task may be done twice: make your work repeatable.
    call('POST', "/leases/$id/ack");
}

$stopping = false;
if (function_exists('pcntl_async_signals')) {
    pcntl_async_signals(true);
    foreach ([SIGTERM, SIGINT] as $signal) {
        pcntl_signal($signal, function () use (&$stopping) { $stopping = true; });
    }
}

$queue = rawurlencode($argv[1]);
while (!$stopping) {
    try {
        foreach (call('POST', "/queues/$queue/messages/receive?wait=5s&lease=" . LEASE . 's')['messages'] as $message) handle($message);
    } catch (RuntimeException $error) {
        fwrite(STDERR, $error->getMessage() . "\n"); // no response, or a refusal
        sleep(1);
    }
}

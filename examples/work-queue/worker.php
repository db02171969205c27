#!/usr/bin/env php
<?php
// A worker in PHP, with the curl extension.
//
//   ./worker.php QUEUE
//
// It takes one task at a time, a JSON text, and calls work(). SIGTERM ends it after its present task where PHP has the pcntl
// extension, as it does on the command line of most systems.

declare(strict_types=1);

const LEASE = 30; // seconds
$gateway = getenv('GATEWAY') ?: 'http://127.0.0.1:8080';

/** A task that will never succeed: it goes to the queue's dead-letter exchange. */
class Unworkable extends Exception {}

/** Your work. It returns: done. It throws: the task goes back, for another try. Long work calls $renew() now and then. */
function work(array $task, callable $renew): void
{
    usleep((int) (($task['seconds'] ?? 0) * 1_000_000));
    $renew();
    echo 'done ', json_encode($task), "\n";
}

/** One request; tried again where the gateway says that this helps. */
function call(string $method, string $path, ?array $body = null): ?array
{
    global $gateway;
    for ($attempt = 0; ; $attempt++) {
        $curl = curl_init($gateway . $path);
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
        if ($status !== 503 || $attempt === 5) throw new RuntimeException($answer);
        sleep($wait);
    }
}

function handle(array $message): void
{
    $id = $message['lease']['id'];
    try {
        // A JSON body comes as the value itself, any other as text or base64.
        if (!is_array($message['payload'])) throw new Unworkable('not a JSON object');
        work($message['payload'], fn () => call('POST', "/leases/$id/extend"));
    } catch (Throwable $error) {
        $unworkable = $error instanceof Unworkable;
        fwrite(STDERR, ($unworkable ? 'rejected: ' : 'failed, for another try: ') . $error->getMessage() . "\n");
        call('POST', "/leases/$id/nack", ['requeue' => !$unworkable]);
        return;
    }
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
        foreach (call('GET', "/queues/$queue/messages?wait=5s&lease=" . LEASE . 's')['messages'] as $message) handle($message);
    } catch (RuntimeException $error) {
        // Nobody answers; or the lease ran out before it was settled, and another worker has the task.
        fwrite(STDERR, $error->getMessage() . "\n");
        sleep(1);
    }
}

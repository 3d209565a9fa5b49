// Takes a snapshot or a checkpoint with Xen Orchestra's own client over a stand-in for XAPI.
//
// The one argument is the plan, JSON:
//   operation  the client's method: VM_snapshot or VM_checkpoint
//   tags       the VM's tags
//   journal    the file to which each call to XAPI adds a line when it begins and when it ends
//   seconds    how long such a call takes
//   failures   error codes by XAPI method: that method's calls fail with it
//   secret     the configured syncHookSecret, if any
//   mended     whether the client finds the secret where it looks for it
//
// What happens goes to stdout, one JSON object a line, each with an `event`.

import { appendFileSync } from 'node:fs'
import { subscribe } from 'node:diagnostics_channel'
import { setTimeout as sleep } from 'node:timers/promises'

import { configure } from '@xen-orchestra/log/configure'
import { Xapi } from '@xen-orchestra/xapi'

const plan = JSON.parse(process.argv[2])

const tell = event => console.log(JSON.stringify(event))

const VM = {
  guest_metrics: 'OpaqueRef:NULL',
  name_label: 'a VM',
  power_state: 'Running',
  tags: plan.tags,
  uuid: '5f0e4d1c-0b2a-4c3d-8e9f-a0b1c2d3e4f5',
}

class StandIn extends Xapi {
  async getRecord() {
    return VM
  }

  async callAsync(cancelToken, method) {
    appendFileSync(plan.journal, `${method} begins\n`)
    await sleep(plan.seconds * 1e3)
    appendFileSync(plan.journal, `${method} ends\n`)
    const code = plan.failures[method]
    if (code !== undefined) {
      throw Object.assign(new Error(code), { code })
    }
    return 'OpaqueRef:snapshot'
  }

  async setField() {}
}

configure({
  level: 'warn',
  transport: ({ message, data }) => tell({ event: 'warned', message, error: data?.error?.message }),
})

subscribe('undici:client:sendHeaders', ({ request, socket }) => {
  tell({ event: 'asked', path: request.path.split('?')[0], from: socket.localPort })
})
subscribe('undici:request:headers', ({ request, response }) => {
  tell({ event: 'answered', path: request.path.split('?')[0], status: response.statusCode })
})

const xapi = new StandIn({ url: 'https://root:unused@127.0.0.1', syncHookSecret: plan.secret })
if (plan.mended) {
  xapi._asyncHookSecret = xapi._syncHookSecret
}
try {
  tell({ event: 'returned', ref: await xapi[plan.operation]('OpaqueRef:vm') })
} catch (error) {
  tell({ event: 'threw', code: error.code, message: error.message })
}
